/// What a worker says, one line each.
enum Answer {
  struct Description: Encodable {
    struct Detail: Encodable {
      let cpu, isa, blasCore, blasConfiguration: String
    }

    let engine, version: String
    let threads: Int
    let detail: Detail
  }

  struct PeakRates: Encodable {
    let fp32: Double
    let bf16: Double?

    private enum CodingKeys: String, CodingKey {
      case fp32 = "fp32_gflops"
      case bf16 = "bf16_gflops"
    }

    /// A peak that is not there is null.
    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(fp32, forKey: .fp32)
      try container.encode(bf16, forKey: .bf16)
    }
  }

  struct Prepared: Encodable {
    let seconds: Double
    let loss: Double?
  }

  struct Times: Encodable {
    let seconds: [Double]
    let loss: Double?
  }

  struct Memory: Encodable {
    let rssBytes, peakRssBytes: Int
  }

  struct Done: Encodable {}

  struct Failure: Encodable {
    let error: String
  }
}
