import ArgumentParser
import DiTEngine
import DiTPictures
import Foundation

/// `dit-bench data FOLDER`: training from a folder against training from the same data in memory.
struct DataCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "data",
    abstract: "Compare training from a folder of pictures with the same data in memory.",
    discussion: """
      Three runs of DiT-S over 256 tokens take turns: on the pictures in memory, on
      the folder with a cache that holds it, and on the folder decoded while the
      network trains. All must report the same losses before they are timed. A
      share is the images a second of a turn over those of the turn in memory of
      the same round; the median of all rounds is printed.

        python3 Scripts/make_photos.py /tmp/photos
        dit-bench data /tmp/photos --json data.json
      """)

  @Argument(help: "A folder of class folders of PNG and JPEG pictures.")
  var folder: String

  @Option(help: "Input sizes in pixels: 32 has patches of 2, 256 of 16.")
  var size: [Int] = [256, 32]

  @Option(help: "Turns of each run.")
  var rounds = 5

  @Option(help: "Steps per turn.")
  var steps = 4

  @Option(help: "Samples per step.")
  var batch = 8

  @Option(help: "Hidden size, a multiple of 64.")
  var hidden = 384

  @Option(help: "Threads that decode ahead.")
  var loaderThreads = TrainingConfiguration().loaderThreads

  @Option(help: ArgumentHelp("Also write the results to a JSON file.", valueName: "file"))
  var json: String?

  @OptionGroup var options: ContextOptions

  func run() throws {
    guard min(rounds, steps, batch, loaderThreads) >= 1, hidden >= 64, hidden % 64 == 0,
      size.allSatisfy({ $0 >= 16 && $0 % 16 == 0 })
    else {
      throw ValidationError("expected positive numbers, sizes in multiples of 16, a hidden size in multiples of 64")
    }
    let context = try options.makeContext()
    let pictures = try ImageFolder(folder)
    var rows: [DataShare] = []
    for size in size {
      let row = try DataTurns(self, pictures, size: size, context).measured()
      print(row.text)
      rows.append(row)
    }
    if let json { try JSONEncoder().encode(rows).write(to: URL(filePath: json)) }
  }

  /// A pixel-space DiT of 256 tokens.
  fileprivate func model(size: Int, classes: Int) -> ModelConfiguration {
    ModelConfiguration(
      network: DiTConfiguration(
        inputHeight: size, inputWidth: size, patchSize: size / 16, inChannels: 3, hiddenSize: hidden, depth: 12,
        numHeads: hidden / 64, numClasses: classes))
  }

  fileprivate var training: TrainingConfiguration {
    var training = TrainingConfiguration()
    (training.batch, training.microBatch, training.loaderThreads) = (batch, batch, loaderThreads)
    return training
  }
}

/// What one input size gave.
struct DataShare: Encodable {
  let size, pictures, threads, loaderThreads: Int
  /// Images a second: medians.
  let memory, kept, streamed: Double
  /// Over those in memory: medians of the rounds.
  let keptShare, streamedShare: Double
  /// Seconds until the data could be trained on.
  let keptOpening, streamedOpening: Double

  var text: String {
    """
    \(size)×\(size), \(pictures) pictures, \(threads) threads, \(loaderThreads) that decode: images/s
      in memory         \(threeDigits(memory))
      folder, kept      \(threeDigits(kept))  \(threeDigits(100 * keptShare)) %  (opened in \(threeDigits(keptOpening)) s)
      folder, streamed  \(threeDigits(streamed))  \(threeDigits(100 * streamedShare)) %  (opened in \
    \(threeDigits(streamedOpening)) s)
    """
  }
}

/// Three runs that take turns.
private struct DataTurns {
  let command: DataCommand
  let size: Int
  let pictures: ImageFolder
  let runs: [Trainer]
  let openings: [Double]

  init(_ command: DataCommand, _ pictures: ImageFolder, size: Int, _ context: ComputeContext) throws {
    self.command = command
    self.size = size
    self.pictures = pictures
    func open(_ cacheBytes: Int) throws -> Dataset {
      try pictures.dataset(
        channels: 3, height: size, width: size, options: PictureOptions(cacheBytes: cacheBytes)
      ).data
    }
    var (kept, streamed): (Dataset?, Dataset?)
    openings = [try seconds { kept = try open(.max) }, try seconds { streamed = try open(0) }]
    guard let kept, let streamed else {
      self.runs = []
      return
    }
    var floats: [Float] = []
    floats.reserveCapacity(kept.count * kept.sampleCount)
    for index in 0..<kept.count { floats += try kept.sample(index) }
    let memory = try Dataset(
      Tensor(shape: [kept.count, 3, size, size], elements: floats), labels: kept.labels, name: "memory")
    let model = command.model(size: size, classes: pictures.classNames?.count ?? 0)
    runs = try [memory, kept, streamed].map {
      try Trainer(model: model, training: command.training, data: $0, context: context)
    }
  }

  /// Seconds of each run's turns, after a first one that verifies.
  func measured() throws -> DataShare {
    let losses = try runs.map { try $0.step().loss }
    guard Set(losses).count == 1 else { throw BenchError("the same data should give one loss, found \(losses)") }
    var rates = runs.map { _ in [Double]() }
    for round in 0..<command.rounds {
      for turn in runs.indices {
        // Who comes first changes from round to round.
        let run = (turn + round) % runs.count
        Self.waitForIdle()
        let time = try seconds { for _ in 0..<command.steps { _ = try runs[run].step() } }
        rates[run].append(Double(command.steps * command.batch) / time)
      }
    }
    func median(_ values: [Double]) -> Double { Measurement(values).median }
    func share(_ run: Int) -> Double { median(rates[run].indices.map { rates[run][$0] / rates[0][$0] }) }
    return DataShare(
      size: size, pictures: pictures.count, threads: runs[0].context.threads, loaderThreads: command.loaderThreads,
      memory: median(rates[0]), kept: median(rates[1]), streamed: median(rates[2]), keptShare: share(1),
      streamedShare: share(2), keptOpening: openings[0], streamedOpening: openings[1])
  }

  /// Waits until the threads that read ahead have filled their ring: what a turn takes from it, they must decode in that
  /// turn.
  private static func waitForIdle() {
    var before = clock()
    while true {
      usleep(200_000)
      let now = clock()
      if now - before < CLOCKS_PER_SEC / 50 { return }
      before = now
    }
  }
}
