import DiTKernels
import Foundation
import Synchronization
import TestSupport
import Testing

/// The same bytes whatever the number of threads, and however many host threads share a context.
@Suite("The same bytes at any number of threads") struct DeterminismTests {
  @Test("Every kernel gives the same bits with 1, 2 and 3 threads", arguments: KernelCases.all)
  func threadCounts(_ kernel: any KernelCase) throws {
    let inputs = kernel.inputs
    for level in Level.all {
      let one = kernel.run(try level.context(threads: 1), inputs).named
      for threads in [1, 2, 3] {
        let found = kernel.run(try level.context(threads: threads), inputs).named
        #expect(bitDifference(found, one) == nil, "\(type(of: kernel)), \(level), \(threads) threads")
      }
    }
  }

  /// Of the cases that differ in their sizes only, the largest, which are cut into several tasks; with their inputs.
  struct Work: Sendable {
    private struct Entry {
      let kernel: any KernelCase
      let inputs: [String: [Float]]

      var elements: Int { inputs.values.reduce(0) { $0 + $1.count } }
      /// What the description says apart from sizes.
      var kind: String { "\(type(of: kernel)) \(kernel.kernels.sorted()) \(kernel.description.filter(\.isLetter))" }
    }

    private let cases: [Entry]

    init() {
      let entries = KernelCases.all.map { Entry(kernel: $0, inputs: $0.inputs) }
      let kinds = Dictionary(grouping: entries, by: \.kind).sorted { $0.key < $1.key }
      cases = kinds.compactMap { kind in kind.value.max { $0.elements < $1.elements } }
    }

    /// - Parameter start: the share of the list after which it begins anew.
    func run(_ context: ComputeContext, from start: Double = 0) -> [[(String, [Float])]] {
      let first = Int(start * Double(cases.count))
      let results = (cases[first...] + cases[..<first]).map { $0.kernel.run(context, $0.inputs).named }
      return Array(results[(cases.count - first)...] + results[..<(cases.count - first)])
    }

    func difference(_ found: [[(String, [Float])]], _ expected: [[(String, [Float])]]) -> String? {
      for (entry, pair) in zip(cases, zip(found, expected)) {
        if let difference = bitDifference(pair.0, pair.1) { return "\(entry.kind), \(entry.kernel): \(difference)" }
      }
      return nil
    }
  }

  /// Four host threads with one context of three workers, each at another kernel: kernels take turns, and none sees
  /// another's work.
  @Test("Four host threads sharing a context get the bits of one", arguments: InstructionSet.runnable)
  func sharedContext(_ level: InstructionSet) throws {
    let (context, work) = (try ComputeContext(threads: 3, workers: 3, instructionSet: level), Work())
    let expected = work.run(context)
    let problems = Mutex<[String]>([])
    let group = DispatchGroup()
    for host in 0..<4 {
      Thread(group) {
        for _ in 0..<2 {
          if let difference = work.difference(work.run(context, from: Double(host) / 4), expected) {
            problems.withLock { $0.append("host \(host): \(difference)") }
          }
        }
      }
    }
    group.wait()
    #expect(problems.withLock { $0 } == [])
  }

  /// Host threads with a context each, at all levels at once.
  @Test("Host threads with contexts of their own do not disturb each other")
  func manyContexts() throws {
    let work = Work()
    let problems = Mutex<[String]>([])
    let group = DispatchGroup()
    for level in InstructionSet.runnable {
      let expected = work.run(try ComputeContext(threads: 1, instructionSet: level))
      for threads in [1, 2] {
        Thread(group) {
          guard let context = try? ComputeContext(threads: threads, instructionSet: level),
            work.difference(work.run(context), expected) == nil
          else { return problems.withLock { $0.append("\(level), \(threads) threads") } }
        }
      }
    }
    group.wait()
    #expect(problems.withLock { $0 } == [])
  }

  /// 64 numbers for two workers.
  @Test("More threads than workers run every index once, and no worker's number reaches the threads")
  func moreThreadsThanWorkers() throws {
    let (level, work) = (try #require(Level.all.last), Work())
    let context = try ComputeContext(
      threads: 64, workers: 2, instructionSet: level.instructionSet, nativeBF16: level.nativeBF16)
    #expect(context.threads == 64)
    #expect(work.difference(work.run(context), work.run(try level.context(threads: 1))) == nil)
  }
}
