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
      var reason = ""
      if let pointer = unsafe Self.load(name, &reason) {
        unsafe self.init(pointer)
        return
      }
      reasons.append(reason)
    }
    let found = reasons.joined(separator: "; ")
    throw DiTError(
      .option, DiTError.Subject(chosen.map { .environment("\(Self.variable)=\($0)") } ?? .option("distributed")),
      expected: "an MPI library (Open MPI 4 or 5, MPICH 3 or later and its kin, or the standard ABI of MPI 5)",
      found: found)
  }

  private init(_ pointer: OpaquePointer) { unsafe self.pointer = pointer }

  private static func load(_ name: String, _ reason: inout String) -> OpaquePointer? {
    var found: OpaquePointer?
    reason = unsafe text(1024) { unsafe found = unsafe dit_mpi_load(name, $0, $1) }
    return unsafe found
  }

  /// Which values it has for MPI's constants.
  public var abi: ABI {
    switch unsafe dit_mpi_abi(pointer) {
    case 0: .openMPI
    case 1: .mpich
    default: .standard
    }
  }

  /// The file.
  public var path: String { unsafe String(cString: dit_mpi_path(pointer)) }

  /// The first line of what it says of itself, as in `Open MPI v4.1.4, …`.
  public var version: String {
    let text = unsafe Self.text { unsafe dit_mpi_version(pointer, $0, $1) }
    let words = text.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
    return words.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }

  /// What an error code means.
  func words(_ code: Int32) -> String { unsafe Self.text { unsafe dit_mpi_error_text(pointer, code, $0, $1) } }

  private static func text(_ size: Int = 8192, _ fill: (UnsafeMutablePointer<CChar>, Int) -> Void) -> String {
    var text = [CChar](repeating: 0, count: size)
    unsafe text.withUnsafeMutableBufferPointer { buffer in
      if let start = buffer.baseAddress { unsafe fill(start, size) }
    }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
