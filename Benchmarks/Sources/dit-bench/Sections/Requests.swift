import DiTEngine
import Dispatch
import Foundation

/// Many callers of one model.
enum Requests: Section {
  static let name = "requests"
  static let note =
    """
    Eight images by DDIM, one after the other in turns: in one call; as eight calls from eight threads in one session of eight; \
    and as eight such calls without a session, which take turns on the pool.
    """

  private enum Way: String, CaseIterable {
    case batch = "one call"
    case session = "eight requests in a session"
    case apart = "eight calls apart"
  }

  static func run(_ session: Session) throws {
    let steps = session.isQuick ? 4 : 10
    for (model, guidance) in [(Model("S"), 1.0), (Model("S"), 4), (Model("B"), 4)].prefix(session.isQuick ? 1 : 3) {
      for variant in Variant.timed {
        func name(_ way: Way) -> String {
          "\(model.name), guidance \(guidance), \(steps) steps, \(variant.name): \(way.rawValue)"
        }
        let ways = session.wanted(Way.allCases, name: name)
        guard !ways.isEmpty else { continue }
        let weights = Weights.drawn(model.configuration)
        let dit = try makeModel(model.configuration, weights: weights, context: session.context, variant)
        let shared = dit.session(batch: 8)
        let options = SamplingOptions(
          sampler: Sampler(.ddim, steps: steps), guidance: Guidance(scale: guidance), seed: 1)
        func run(_ way: Way) throws {
          switch way {
          case .batch: _ = try dit.sample(.classes(Array(0..<8)), options: options)
          case .session: try concurrently { _ = try shared.sample(.classes([$0]), options: options) }
          case .apart: try concurrently { _ = try dit.sample(.classes([$0]), options: options) }
          }
        }
        var times: [Way: [Double]] = [:]
        for round in 0..<6 {
          for way in ways {
            let time = try seconds { try run(way) }
            if round > 0 { times[way, default: []].append(time) }
          }
        }
        for way in ways {
          let ratios = zip(times[.batch] ?? [], times[way] ?? []).map { $0 / $1 }.sorted()
          let time = Measurement(times[way] ?? [])
          try session.add(
            name(way),
            Field.time(time) + [
              ratios.isEmpty
                ? Field("throughput", "", [:])
                : Field("throughput, to one call", "throughput", ratios[ratios.count / 2])
            ])
        }
      }
    }
  }

  /// Eight threads at once.
  private static func concurrently(_ body: @escaping @Sendable (Int) throws -> Void) throws {
    let group = DispatchGroup()
    for n in 0..<8 {
      group.enter()
      Thread {
        try? body(n)
        group.leave()
      }.start()
    }
    group.wait()
  }
}
