import DiTFiles
import DiTTensor
import Foundation
import SwiftProtobuf

/// A TensorBoard event file: values and pictures by step, written event by event.
///
///     let events = try EventFile(in: "runs/mine/tensorboard", after: 0)
///     try events.write(step: 10, ["training/loss": 0.25])
///
/// Every event carries the time at which it was written, because TensorBoard needs it, as does the file's name: a file
/// that is not to be compared byte by byte. One caller at a time.
public final class EventFile {
  /// FOLDER/events.out.tfevents.SECONDS.dit, with a number behind it where that is taken.
  public let path: String
  private let file: AppendedFile
  private let clock: () -> Double

  /// A new file.
  ///
  /// - Parameters:
  ///   - directory: created if missing. Files that are there stay: TensorBoard reads them all.
  ///   - step: the step that a run goes on from, 0 of a new one: what earlier files hold of later steps no longer counts.
  ///   - clock: seconds since 1970.
  /// - Throws: `DiTError`.
  public init(
    in directory: String, after step: Int, clock: @escaping () -> Double = { Date().timeIntervalSince1970 }
  ) throws(DiTError) {
    try Directory.create(directory)
    // TensorBoard reads the files of a folder in the order of their names, which seconds of ten digits are.
    let name = "\(directory)/events.out.tfevents.\(Self.padded(Int(clock()))).dit"
    file = try Self.firstFree([name] + (1...999).map { "\(name).\(Self.padded($0).suffix(3))" })
    path = file.path
    self.clock = clock
    try append(0) { $0.fileVersion = "brain.Event:2" }
    // A session's start drops what earlier files hold of its step and later ones. TensorBoard's reader under
    // --load_fast=false takes a run's first start for its beginning and drops nothing: so every file has one.
    try append(step > 0 ? step + 1 : 0) { $0.sessionLog.status = .start }
  }

  /// A new file under the first of the names that is free.
  private static func firstFree(_ names: [String]) throws(DiTError) -> AppendedFile {
    for name in names.dropLast() {
      do throws(DiTError) {
        return try AppendedFile(creating: name)
      } catch {
        guard error.isTaken else { throw error }
      }
    }
    return try AppendedFile(creating: names[names.count - 1])
  }

  /// Writes one value for each tag; those that are nil are left out.
  ///
  /// - Throws: `DiTError`.
  public func write(step: Int, _ values: KeyValuePairs<String, Double?>) throws(DiTError) {
    try write(step: step, values.map { ($0.key, $0.value) })
  }

  /// Writes one value for each tag; those that are nil are left out.
  ///
  /// - Throws: `DiTError`.
  public func write(step: Int, _ values: [(tag: String, value: Double?)]) throws(DiTError) {
    let summary = Dit_Events_Summary.with {
      $0.value = values.compactMap { tag, value in
        value.map { value in
          Dit_Events_Summary.Value.with { ($0.tag, $0.simpleValue) = (tag, Float(value)) }
        }
      }
    }
    try append(step) { $0.summary = summary }
  }

  /// Writes a picture.
  ///
  /// - Parameters:
  ///   - step: of the run.
  ///   - tag: what the picture stands under.
  ///   - png: the file's bytes.
  ///   - width: in pixels.
  ///   - height: in pixels.
  ///   - channels: 1 gray, 3 RGB.
  /// - Throws: `DiTError`.
  public func write(
    step: Int, _ tag: String, png: [UInt8], width: Int, height: Int, channels: Int
  ) throws(DiTError) {
    let value = Dit_Events_Summary.Value.with {
      $0.tag = tag
      $0.image.width = Int32(width)
      $0.image.height = Int32(height)
      $0.image.colorspace = Int32(channels)
      $0.image.encodedImageString = Data(png)
    }
    try append(step) { $0.summary.value = [value] }
  }

  private func append(_ step: Int, _ fill: (inout Dit_Events_Event) -> Void) throws(DiTError) {
    var event = Dit_Events_Event()
    event.wallTime = clock()
    event.step = Int64(step)
    fill(&event)
    let data: [UInt8]
    do {
      data = try event.serializedBytes()
    } catch {
      preconditionFailure("an event of the schema's own types cannot be encoded: \(error)")
    }
    try file.write(Record.framed(data).span)
  }

  private static func padded(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 10 - digits.count)) + digits
  }
}
