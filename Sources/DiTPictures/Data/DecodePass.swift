import DiTTensor
import DiTTraining
import Foundation
import Synchronization

/// All of a source's pictures, decoded on all cores.
struct DecodePass {
  /// (N, C, H, W) where they were to be kept; zeros for the broken ones.
  private(set) var pixels: [UInt8]?
  /// In the order of the samples.
  private(set) var broken: [(index: Int, error: DiTError)]

  /// Decodes the pictures of `indices`; when they are kept, these are all.
  static func run(_ source: PictureSource, _ indices: [Int], keeping: Bool) -> DecodePass {
    let shared = Shared(
      DecodePass(pixels: keeping ? [UInt8](repeating: 0, count: source.count * source.sampleBytes) : nil, broken: []))
    let threads = min(indices.count, ProcessInfo.processInfo.activeProcessorCount)
    if threads > 0 {
      DispatchQueue.concurrentPerform(iterations: threads) { _ in shared.work(source, indices) }
    }
    var pass = shared.pass.withLock { $0 }
    pass.broken.sort { $0.index < $1.index }
    return pass
  }

  /// Closes the gaps of the broken pictures.
  mutating func drop(_ broken: Set<Int>, sampleBytes: Int) {
    guard var pixels else { return }
    self.pixels = nil
    var next = 0
    for index in 0..<pixels.count / sampleBytes where !broken.contains(index) {
      if next < index {
        for i in 0..<sampleBytes { pixels[next * sampleBytes + i] = pixels[index * sampleBytes + i] }
      }
      next += 1
    }
    pixels.removeLast(pixels.count - next * sampleBytes)
    self.pixels = pixels
  }

  /// What the threads share.
  private final class Shared: Sendable {
    let pass: Mutex<DecodePass>
    private let next = Atomic<Int>(0)

    init(_ pass: DecodePass) { self.pass = Mutex(pass) }

    /// Takes one picture after another until none is left.
    func work(_ source: PictureSource, _ indices: [Int]) {
      var sample = [UInt8](repeating: 0, count: source.sampleBytes)
      while true {
        let place = next.add(1, ordering: .relaxed).oldValue
        guard place < indices.count else { return }
        let index = indices[place]
        do throws(DiTError) {
          try Self.read(source, index, into: &sample)
        } catch {
          pass.withLock { $0.broken.append((index, error)) }
          continue
        }
        let start = index * sample.count
        pass.withLock { $0.pixels?.replaceSubrange(start..<start + sample.count, with: sample) }
      }
    }

    private static func read(
      _ source: PictureSource, _ index: Int, into sample: inout [UInt8]
    ) throws(DiTError) {
      var span = sample.mutableSpan
      try source.read(index, into: &span)
    }
  }
}
