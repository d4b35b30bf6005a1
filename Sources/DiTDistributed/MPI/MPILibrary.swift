import CDiTMPI
import DiTTensor
import Foundation

/// An MPI library that was found and loaded: which one, and what it says of itself.
///
/// None is needed to build or to run anything else.
@safe public final class MPILibrary: @unchecked Sendable {
  /// The variable that names a library in the place of those that are looked for.
  public static let variable = "DIT_MPI_LIBRARY"

  let pointer: OpaquePointer

  /// Which values a library has for MPI's constants.
  public enum ABI: String, Sendable {
    case openMPI = "Open MPI"
    case mpich = "MPICH"
    case standard = "MPI 5.0"
  }

  /// The library that `DIT_MPI_LIBRARY` names, else the first of the usual names that there is, those of the launcher first.
  ///
  /// - Throws: `DiTError` where there is none, with what was tried.
  public convenience init() throws(DiTError) { try self.init(ProcessInfo.processInfo.environment) }

  package convenience init(_ environment: [String: String]) throws(DiTError) {
    let chosen = environment[Self.variable]
    var reasons: [String] = []
    for name in chosen.map({ [$0] }) ?? Launcher.libraries(environment) {
      switch Self.load(name) {
      case .success(let pointer):
        unsafe self.init(pointer)
        return
      case .failure(let reason): reasons.append(reason.words)
      }
    }
    let found = reasons.joined(separator: "; ")
    throw DiTError(
      .option, DiTError.Subject(chosen.map { .environment("\(Self.variable)=\($0)") } ?? .option("distributed")),
      expected: "an MPI library (Open MPI 4 or 5, MPICH 3 or later and its kin, or the standard ABI of MPI 5)", found: found)
  }

  private init(_ pointer: OpaquePointer) { unsafe self.pointer = pointer }

  private struct Refusal: Error {
    let words: String
  }

  private static func load(_ name: String) -> Result<OpaquePointer, Refusal> {
    let size = 1024
    var reason = [CChar](repeating: 0, count: size)
    let pointer = unsafe reason.withUnsafeMutableBufferPointer { unsafe dit_mpi_load(name, $0.baseAddress!, size) }
    if let pointer = unsafe pointer { return unsafe .success(pointer) }
    let text = reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    return .failure(Refusal(words: String(decoding: text, as: UTF8.self)))
  }

  /// Which values it has for MPI's constants.
  public var abi: ABI {
    switch unsafe dit_mpi_abi(pointer) {
    case .openMPI: .openMPI
    case .MPICH: .mpich
    case .standard: .standard
    }
  }

  /// The file.
  public var path: String { unsafe String(cString: dit_mpi_path(pointer)) }

  /// The first line of what it says of itself, as in `Open MPI v4.1.4, …`.
  public var version: String {
    let text = text { unsafe dit_mpi_version(pointer, $0, $1) }
    let words = text.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
    return words.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }

  /// What an error code means.
  func words(_ code: Int32) -> String { text { unsafe dit_mpi_error_text(pointer, code, $0, $1) } }

  private func text(_ fill: (UnsafeMutablePointer<CChar>, Int) -> Void) -> String {
    let size = 8192
    var text = [CChar](repeating: 0, count: size)
    unsafe text.withUnsafeMutableBufferPointer { unsafe fill($0.baseAddress!, size) }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
