import DiTDiffusion
import DiTFiles
import DiTImaging
import DiTModel
import DiTPictures
import DiTPipeline
import DiTTensor
import DiTTraining
import Testing

extension Image {
  /// Pixels of exactly this color.
  fileprivate func count(_ color: PlotColor) -> Int {
    stride(from: 0, to: pixels.count, by: 3).count {
      pixels[$0] == color.red && pixels[$0 + 1] == color.green && pixels[$0 + 2] == color.blue
    }
  }
}

@Suite("Plots of a run and of a schedule") struct RunPlotTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private var data: Dataset {
    get throws {
      var random = Philox(seed: 8)
      let elements = random.normal(count: 20 * 24).map { max(-1, min(1, 0.5 * $0)) }
      return try Dataset(
        Tensor(shape: [20, 1, 4, 6], elements: elements), labels: (0..<20).map { $0 % 3 }, name: "data")
    }
  }

  private func freshTrainer() throws -> Trainer { try trainer(try data) { $0.logEvery = 2 } }

  private func log(_ name: String) -> String { "\(scratch(name))/\(TrainingRun.logFile)" }

  /// The curves of a run in the folder `name`, from its log and from what follows.
  private func curves(_ name: String, resuming: Bool = false, stopAfter limit: Int = .max) throws -> TrainingCurves {
    let trainer = try freshTrainer()
    let run =
      resuming
      ? try TrainingRun(resuming: trainer, in: scratch(name)) : try TrainingRun(starting: trainer, in: scratch(name))
    var curves = TrainingCurves(log: log(name))
    _ = try run.run(
      shouldStop: { trainer.completedSteps >= limit },
      report: { event in
        switch event {
        case .logged(let report, _): curves.add(report)
        case .validation(let report): curves.add(report)
        default: break
        }
      })
    return curves
  }

  @Test("The curves of a run that was resumed are those of one that was not")
  func resumed() throws {
    let picture = try #require(try curves("whole").picture)
    let first = try curves("parts", stopAfter: 5)
    #expect(first.picture != nil && first.picture != picture)
    #expect(try curves("parts", resuming: true).picture == picture)
    #expect(picture.width == 800 && picture.count(.blue) > 100 && picture.count(.green) > 100)
    #expect(picture.count(.orange) > 60, "three validations")
    #expect(TrainingCurves(log: log("whole")).picture == picture, "the log alone")
    #expect(TrainingCurves(log: log("none")).picture == nil)
  }

  @Test("The best evaluations are marked at the measure that chose them, also where a run's measures have changed")
  func bestMarks() throws {
    var curves = try curves("marked")
    func report(_ step: Int, _ values: (String, Double)...) -> MeasureReport {
      MeasureReport(
        step: step, samples: 9, values: values.map { MeasureReport.Value($0.0, $0.1) }, isBetterLarger: false)
    }
    /// Orange pixels in the plots of the two measures, which stand below the losses (480) and the rate (180).
    func marks() throws -> [Int] {
      let picture = try #require(curves.picture)
      try #require(picture.height == 480 + 180 + 2 * 240)
      return [660..<900, 900..<1140].map { rows in
        let part = picture.pixels[rows.lowerBound * picture.width * 3..<rows.upperBound * picture.width * 3]
        return Image(width: picture.width, height: 240, channels: 3, pixels: Array(part)).count(.orange)
      }
    }
    curves.add(report(3, ("frechet", 20), ("precision", 0.2)), isBest: true)
    curves.add(report(4, ("frechet", 21), ("precision", .nan)), isBest: false)
    let one = try marks()
    #expect(one[0] > 20 && one[1] == 0)
    curves.add(report(5, ("precision", 0.6), ("frechet", 22)), isBest: true)
    let both = try marks()
    #expect(both[0] > 20 && both[1] > 20)
  }

  @Test("A loss map's tensors are the means of its bins, and its picture has one panel per bin")
  func lossMap() throws {
    let trainer = try trainer(try data) { $0.validationModulus = 2 }
    _ = try trainer.step()
    let report = try #require(try trainer.validate())
    let map = try #require(report.patches)
    let path = scratch("map.safetensors")
    try SafetensorsWriter.write(map.tensors, to: path)
    let file = try SafetensorsFile(contentsOf: path)
    let (errors, counts) = try (file.tensor("mse"), file.integers("samples").values)
    #expect(errors.shape == [10, 2, 3] && counts.reduce(0, +) == report.samples)
    #expect(try file.integers("t").values == (0...10).map { $0 * 100 })
    let sums = (0..<10).filter { counts[$0] > 0 }.map { bin in
      errors.elements[bin * 6..<bin * 6 + 6].reduce(0) { $0 + Double($1) / 6 } * Double(counts[bin])
    }
    #expect(abs(sums.reduce(0, +) / Double(report.samples) / report.mse - 1) < 1e-5)
    let panels = (0..<10).map { bin in
      HeatMapPlot.Panel(caption: "t \(bin * 100)-\(bin * 100 + 99)", values: map.means(ofBin: bin))
    }
    let expected = HeatMapPlot(
      title: "mse by patch and t after step 1", panels: panels, rows: 2, columns: 3, scale: .logarithmic)
    #expect(map.picture(afterStep: 1) == expected.rendered())
  }

  @Test("A schedule's picture has one panel for β and ᾱ each, and for attention's scale and window where they vary")
  func schedule() throws {
    func picture(_ attention: AttentionConfiguration) throws -> Image {
      var network = DiTConfiguration(
        inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 1, hiddenSize: 16, depth: 1, numHeads: 2,
        numClasses: 3)
      network.attention = attention
      let noise = try ModelConfiguration(network: network).noise()
      let times = try Sampler(.ddim, steps: 5).process(on: noise).stepTimes
      let timesteps = SamplingTimesteps(noise, times.reversed(), rule: "linspace", network: network)
      return SchedulePlot.picture(noise, timesteps, network: network)
    }
    let plain = try picture(AttentionConfiguration())
    let scaled = try picture(AttentionConfiguration(temperature: .sqrtBeta))
    let masked = try picture(AttentionConfiguration(temperature: .sqrtBeta, mask: .hard, window: .noise))
    #expect(scaled.height == plain.height / 2 * 3 && masked.height == plain.height * 2)
    #expect(Array(masked.pixels.prefix(plain.pixels.count)) == plain.pixels)
    #expect(plain.count(.green) == 0 && scaled.count(.green) > 300 && scaled.count(.purple) == 0)
    #expect(masked.count(.purple) > 300)
  }
}
