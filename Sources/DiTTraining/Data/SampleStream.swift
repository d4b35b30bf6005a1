// Reading ahead: a few threads read the samples that come next into a ring of buffers, which are made once.

import DiTTensor
import Foundation

/// The samples of a source in a given order, read in the background from number `first` on. One caller at a time.
final class SampleStream {
  /// The ring holds at most so many bytes (but a place for each thread and one more), and so many samples.
  static let ringBytes = 64 << 20
  static let ringSamples = 1024

  private let ring: Ring

  /// - Parameters:
  ///   - end: the number after the last; no more are read.
  ///   - threads: that read, at least 1.
  init(_ source: any ImageSource, order: any SampleOrder, from first: Int, to end: Int, threads: Int) {
    precondition(threads > 0, "a stream without threads")
    ring = Ring(source, order: order, from: first, to: end, threads: threads)
    for _ in 0..<threads {
      let ring = ring
      let thread = Thread { ring.read() }
      thread.name = "dit-reader"
      thread.start()
    }
  }

  deinit { ring.stop() }

  /// Waits for sample `number`, which must be the one after the last that was taken, and writes it as floats in [−1, 1],
  /// mirrored left to right when `flipped`.
  ///
  /// - Throws: what reading it threw; the stream does not go on from there.
  func take(_ number: Int, flipped: Bool, into target: inout MutableSpan<Float>) throws(DiTError) {
    let place = ring.wait(for: number)
    if let error = place.error { throw error }
    place.pixels.span.copyImage(flipped: flipped, width: ring.source.width, into: &target)
    ring.free(place)
  }
}

/// A buffer for one sample, with what became of it.
private final class Place {
  /// The sample's number in the order.
  var number = -1
  /// The sample's index in the data.
  var index = 0
  var isRead = false
  var error: DiTError?
  var pixels: [UInt8]

  init(bytes: Int) { pixels = [UInt8](repeating: 0, count: bytes) }

  func fill(from source: any ImageSource) throws(DiTError) {
    var own: [UInt8] = []
    swap(&own, &pixels)
    defer { swap(&own, &pixels) }
    var span = own.mutableSpan
    try source.read(index, into: &span)
  }
}

/// What the caller and the threads share. Everything is guarded by the lock, except that a place belongs to the thread that
/// took it until it is read, and then to the caller until it is free.
private final class Ring: @unchecked Sendable {
  let source: any ImageSource
  private let lock = NSCondition()
  private let places: [Place]
  private let end: Int
  private var order: any SampleOrder
  /// The first number that no thread has begun.
  private var next: Int
  /// The first number that the caller has not freed.
  private var wanted: Int
  private var isStopped = false

  init(_ source: any ImageSource, order: any SampleOrder, from first: Int, to end: Int, threads: Int) {
    let bytes = source.channels * source.height * source.width
    let most = max(threads + 1, min(SampleStream.ringBytes / bytes, SampleStream.ringSamples))
    self.source = source
    self.order = order
    self.end = end
    places = (0..<min(most, max(1, end - first))).map { _ in Place(bytes: bytes) }
    next = first
    wanted = first
  }

  // MARK: A thread

  /// Reads until nothing is left to read.
  func read() {
    while let place = begin() {
      do throws(DiTError) {
        try place.fill(from: source)
      } catch {
        place.error = error
      }
      finish(place)
    }
  }

  /// The next sample's place, once there is room; nil when nothing is left to read.
  private func begin() -> Place? {
    lock.lock()
    defer { lock.unlock() }
    while !isStopped, next < end, next - wanted >= places.count { lock.wait() }
    guard !isStopped, next < end else { return nil }
    let place = places[next % places.count]
    (place.number, place.index, place.isRead) = (next, order.sample(next), false)
    next += 1
    return place
  }

  private func finish(_ place: Place) {
    lock.lock()
    place.isRead = true
    lock.broadcast()
    lock.unlock()
  }

  // MARK: The caller

  func wait(for number: Int) -> Place {
    lock.lock()
    defer { lock.unlock() }
    precondition(number == wanted && number < end, "sample \(number) of a stream that is at \(wanted) of \(end)")
    let place = places[number % places.count]
    while place.number != number || !place.isRead { lock.wait() }
    return place
  }

  func free(_ place: Place) {
    lock.lock()
    wanted = place.number + 1
    lock.broadcast()
    lock.unlock()
  }

  func stop() {
    lock.lock()
    isStopped = true
    lock.broadcast()
    lock.unlock()
  }
}
