import DiTKernels
import Foundation
import Synchronization
import TestSupport
import Testing

/// The same bytes whatever the number of threads, and however many host threads share a context.
@Suite("The same bytes at any number of threads") struct DeterminismTests {
  @Test("Every kernel gives the same bits with 1, 2 and 3 threads", arguments: Level.all)
  func threadCounts(_ level: Level) throws {
    let one = everyKernel(try level.context(threads: 1))
    for threads in [1, 2, 3] {
      let context = try level.context(threads: threads)
      #expect(bitDifference(everyKernel(context), one) == nil, "\(threads) threads")
      #expect(bitDifference(everyKernel(context), one) == nil, "\(threads) threads, again")
    }
  }

  /// The levels run different instructions over the same formulas: not the same bits, but nearly the same numbers. Where
  /// they round to bf16, what was nearly the same may be rounded up here and down there.
  @Test("Every instruction set gives nearly the same numbers")
  func levelsAgree() throws {
    let narrow = everyKernel(try ComputeContext(threads: 2, instructionSet: .portable))
    for level in Level.all {
      for (a, b) in zip(everyKernel(try level.context()), narrow) where a.0 != "sum of squares" {
        let tolerance = isBF16(a.0) ? Tolerance.bf16(2) : .sum(of: 1000)
        #expect(mismatch(a.1, b.1.doubles, within: tolerance) == nil, "\(a.0), \(level)")
      }
    }
  }

  /// Four host threads with one context of three workers: kernels take turns, and none sees another's work.
  @Test("Four host threads sharing a context get the bits of one", arguments: InstructionSet.runnable)
  func sharedContext(_ level: InstructionSet) throws {
    let context = try ComputeContext(threads: 3, workers: 3, instructionSet: level)
    let expected = everyKernel(context)
    let problems = Mutex<[String]>([])
    let group = DispatchGroup()
    for host in 0..<4 {
      Thread(group) {
        for _ in 0..<3 {
          if let difference = bitDifference(everyKernel(context), expected) {
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
    let problems = Mutex<[String]>([])
    let group = DispatchGroup()
    for level in InstructionSet.runnable {
      let expected = everyKernel(try ComputeContext(threads: 1, instructionSet: level))
      for threads in [1, 2] {
        Thread(group) {
          guard let context = try? ComputeContext(threads: threads, instructionSet: level),
            bitDifference(everyKernel(context), expected) == nil
          else { return problems.withLock { $0.append("\(level), \(threads) threads") } }
        }
      }
    }
    group.wait()
    #expect(problems.withLock { $0 } == [])
  }
}
