import DiTEngine
import Foundation

/// One engine in one process: keeps what was prepared, and answers line by line.
final class Worker {
  private let context: ComputeContext
  private var prepared: (any Work)?
  private let encoder = JSONEncoder()
  private let decoder = JSONDecoder()

  init(_ context: ComputeContext) {
    self.context = context
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    decoder.keyDecodingStrategy = .convertFromSnakeCase
  }

  /// Writes one line to stdout.
  func answer(_ line: String) {
    let text: Data
    do {
      text = try encoder.encode(answer(to: decoder.decode(Request.self, from: Data(line.utf8))))
    } catch {
      text = (try? encoder.encode(Answer.Failure(error: Self.describe(error)))) ?? Data(#"{"error":"unknown"}"#.utf8)
    }
    FileHandle.standardOutput.write(text + Data("\n".utf8))
  }

  private func answer(to request: Request) throws -> any Encodable {
    switch request.op {
    case "describe": return description
    case "peaks":
      let peaks = Peaks.measured(threads: context.threads)
      return Answer.PeakRates(fp32: peaks.fp32, bf16: peaks.bf16)
    case "prepare": return try prepare(request)
    case "run": return try run(request)
    case "memory":
      let use = try MemoryUse.current()
      return Answer.Memory(rssBytes: use.resident, peakRssBytes: use.peak)
    case "release":
      prepared = nil
      return Answer.Done()
    default:
      throw BenchError("op: expected describe, peaks, prepare, run, memory or release, found \(request.op)")
    }
  }

  private var description: Answer.Description {
    let blas = BLASReport.current
    return Answer.Description(
      engine: "dit", version: "unreleased", threads: context.threads,
      detail: .init(
        cpu: Machine.cpuName, isa: context.instructionSet.rawValue, blasCore: blas.core,
        blasConfiguration: blas.configuration))
  }

  private func prepare(_ request: Request) throws -> Answer.Prepared {
    guard let request = request.work else { throw BenchError("work: expected an object, found none") }
    prepared = nil  // so that two are never in memory
    let start = seconds()
    let work = try request.load(context)
    try work.run()
    let time = seconds() - start
    try request.write(work)
    prepared = work
    return Answer.Prepared(seconds: time, loss: (work as? TrainingWork)?.loss)
  }

  private func run(_ request: Request) throws -> Answer.Times {
    guard let prepared else { throw BenchError("run: expected something prepared, found nothing") }
    guard let count = request.count, count > 0 else {
      throw BenchError("count: expected at least 1, found \(request.count.map(String.init) ?? "none")")
    }
    let times = try (0..<count).map { _ in try seconds(prepared.run) }
    return Answer.Times(seconds: times, loss: (prepared as? TrainingWork)?.loss)
  }

  private static func describe(_ error: any Error) -> String {
    guard let error = error as? DecodingError else { return "\(error)" }
    let (context, key): (DecodingError.Context, String?) =
      switch error {
      case .keyNotFound(let key, let context): (context, key.stringValue)
      case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context): (context, nil)
      @unknown default: (DecodingError.Context(codingPath: [], debugDescription: "\(error)"), nil)
      }
    let path = (context.codingPath.map(\.stringValue) + [key].compactMap { $0 }).joined(separator: ".")
    return "request\(path.isEmpty ? "" : " \(path)"): \(context.debugDescription)"
  }
}
