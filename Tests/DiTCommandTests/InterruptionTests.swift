import DiTFiles
import DiTImaging
import Foundation
import Synchronization
import TestSupport
import Testing

/// Ctrl-C, and the progress bar by which these tests know when to press it.
@Suite("Ctrl-C and the progress bar") struct InterruptionTests {
  /// 2000 images run in sub-batches of at most 64: many, so that the signal comes long before the last however late the
  /// process that sends it is woken.
  private static func command(_ scratch: Scratch, _ steps: Int, _ arguments: String...) -> [String] {
    ["sample", "--model", Model.digits, "--count", "200", "--guidance", "1", "--steps", "\(steps)", "--out"]
      + [scratch.path("x.safetensors")] + arguments
  }

  @Test("An interrupted sampling run saves the images that are finished, unchanged")
  func savesWhatIsFinished() async throws {
    let scratch = try Scratch()
    let terminal = try Terminal()
    let steps = 300
    let arguments = Self.command(scratch, steps, "--trajectory", scratch.path("t.safetensors"))
    let run = try Tool.start(arguments, in: scratch, terminal: terminal.end)
    await run.send(SIGINT) { terminal.counts { $0 > steps } }
    let result = try await run.result()
    let said = terminal.rest()
    #expect(result.status == 130 && result.stdout.isEmpty, "\(result.status), \(said)")
    #expect(said.contains("Error: interrupted; the first "), "\(said)")
    #expect(scratch.names == ["t.safetensors", "x.safetensors"])

    let file = try scratch.tensors("x.safetensors")
    let labels = try file.integers("labels").values
    #expect(labels.count % 64 == 0 && (64..<2000).contains(labels.count), "\(labels.count)")
    #expect(labels == (0..<labels.count).map { $0 / 200 }, "\(labels)")
    #expect(said.contains("the first \(labels.count) of 2000 images"), "\(said)")
    #expect(try scratch.tensors("t.safetensors").requireEntry(named: "states").shape == [steps, labels.count, 1, 8, 8])
    // They are what an undisturbed run makes.
    _ = try await succeed([
      "sample", "--model", Model.digits, "--classes", "0", "--count", "20", "--guidance", "1", "--steps", "\(steps)",
      "--out", scratch.path("whole.safetensors"),
    ])
    let whole = try scratch.tensors("whole.safetensors").floats("samples")
    #expect(bitDifference(Array(try file.floats("samples").prefix(whole.count)), whole) == nil)
  }

  /// Latents that are sampled and not decoded yet are left out; the pictures that are done are written.
  @Test("Interrupted while decoding, only the decoded images are saved")
  func interruptedWhileDecoding() async throws {
    let scratch = try Scratch()
    let terminal = try Terminal()
    let count = 4000
    let run = try Tool.start(
      [
        "sample", "--model", Fixture.path("whole", folder: "diffusers"), "--classes", "0-999", "--count",
        "\(count / 1000)", "--guidance", "1", "--steps", "1", "--out", scratch.path("x.safetensors"),
      ], in: scratch, terminal: terminal.end)
    await run.send(SIGINT) { terminal.counts(["images"]) { $0 > 0 } }
    let result = try await run.result()
    #expect(result.status == 130, "\(result.status) \(terminal.rest())")
    let file = try scratch.tensors("x.safetensors")
    let done = try file.requireEntry(named: "images").shape[0]
    #expect((1..<count).contains(done) && terminal.rest().contains("the first \(done) of \(count) images"))
    #expect(try file.requireEntry(named: "samples").shape == [done, 4, 4, 4])
    #expect(try file.integers("labels").values == (0..<done).map { $0 / 4 })
  }

  /// The preview is written anew while the images come.
  @Test("The preview is rewritten while sampling")
  func previewIsRefreshed() async throws {
    let scratch = try Scratch()
    let terminal = try Terminal()
    let run = try Tool.start(
      [
        "sample", "--model", Model.digits, "--count", "1000", "--steps", "1000", "--preview", scratch.path("p.png"),
        "--out", scratch.path("x.safetensors"),
      ], in: scratch, terminal: terminal.end)
    let seen = Mutex<Set<String>>([])
    await run.send(SIGINT) {
      _ = terminal.rest()  // a program whose terminal nobody reads stops when it is full
      let preview = (try? scratch.bytes("p.png")).map { Array($0) } ?? []
      let step = (try? PNGText.entries(inPNG: preview))?.first { $0.key == "Step" }
      return seen.withLock { seen in
        if let step { seen.insert(step.value) }
        return seen.count == 3
      }
    }
    #expect(try await run.result().status == 130)
    let steps = seen.withLock { $0 }
    #expect(steps.count == 3 && steps.allSatisfy { $0.hasSuffix(" of 1000") }, "\(steps)")
  }

  @Test("Interrupted before an image is finished, the old output is left as it was")
  func leavesNothingHalfWritten() async throws {
    let scratch = try Scratch()
    let terminal = try Terminal()
    _ = try scratch.write("old", to: "x.safetensors")
    let run = try Tool.start(Self.command(scratch, 1000), in: scratch, terminal: terminal.end)
    await run.send(SIGTERM) { terminal.counts { $0 > 0 } }
    let result = try await run.result()
    let said = terminal.rest()
    #expect(result.status == 130, "\(said)")
    #expect(said.contains("Error: interrupted before an image was finished"), "\(said)")
    #expect(scratch.names == ["x.safetensors"] && scratch.text("x.safetensors") == "old")
  }

  @Test("An interrupted inversion saves the noise that is finished")
  func interruptedInversion() async throws {
    let scratch = try Scratch()
    _ = try await succeed([
      "sample", "--model", Model.digits, "--count", "200", "--steps", "1", "--out", scratch.path("in.safetensors"),
    ])
    let terminal = try Terminal()
    let steps = 300
    let run = try Tool.start(
      [
        "invert", "--model", Model.digits, "--input", scratch.path("in.safetensors"), "--guidance", "1", "--steps",
        "\(steps)", "--out", scratch.path("x.safetensors"),
      ], in: scratch, terminal: terminal.end)
    await run.send(SIGINT) { terminal.counts { $0 > steps } }
    let result = try await run.result()
    #expect(result.status == 130, "\(terminal.rest())")
    let file = try scratch.tensors("x.safetensors")
    let labels = try file.integers("labels").values
    #expect(labels.count % 64 == 0 && (64..<2000).contains(labels.count), "\(labels.count)")
    #expect(labels == (0..<labels.count).map { $0 / 200 }, "\(labels)")
    #expect(try file.requireEntry(named: "noise").shape == [labels.count, 1, 8, 8])
  }

  @Test("Progress is shown on a terminal and nowhere else")
  func progressIsForTerminalsOnly() async throws {
    let scratch = try Scratch()
    let arguments = ["sample", "--model", Model.digits, "--steps", "5", "--out", scratch.path("x.png")]
    #expect(try await succeed(arguments).stderr.isEmpty)
    let terminal = try Terminal()
    let run = try Tool.start(arguments, in: scratch, terminal: terminal.end)
    #expect(try await run.result().status == 0)
    let said = terminal.rest()
    for words in ["sampling [", "5/5 steps", "steps/s", "left"] { #expect(said.contains(words), "\(said)") }
  }
}

/// A pseudo-terminal that stands for a person's.
final class Terminal: Sendable {
  /// What a program writes to.
  let end: FileHandle
  private let controller: Int32
  private let said = Mutex("")

  init() throws {
    var ends: (controller: Int32, program: Int32) = (-1, -1)
    try #require(unsafe openpty(&ends.controller, &ends.program, nil, nil, nil) == 0)
    controller = ends.controller
    end = FileHandle(fileDescriptor: ends.program, closeOnDealloc: true)
    _ = fcntl(controller, F_SETFL, O_NONBLOCK)
  }

  deinit { close(controller) }

  /// Whether the progress bar's last count fulfils a condition.
  ///
  /// - Parameter units: what is counted.
  func counts(_ units: Set<Substring> = ["steps", "images"], _ isReached: (Int) -> Bool) -> Bool {
    let counts = rest().suffix(400).matches(of: /(\d+)\/\d+ (\w+)/).filter { units.contains($0.2) }.compactMap {
      Int($0.1)
    }
    return counts.last.map(isReached) ?? false
  }

  /// All that was said so far.
  func rest() -> String {
    said.withLock { said in
      var block = [UInt8](repeating: 0, count: 4096)
      while true {
        let count = unsafe read(controller, &block, block.count)
        guard count > 0 else { return said }
        said += String(decoding: block[..<count], as: UTF8.self)
      }
    }
  }
}
