import DiTKernels
import DiTTensor

extension AttentionCase {
  public static let all = blas + packed + hard + windowed

  /// Both of its paths: up to 64 tokens in one vector kernel, beyond that over blocks of queries: 300 tokens are two, 1100
  /// nineteen.
  private static var blas: [AttentionCase] {
    [
      (1, 1, 1, 1), (2, 3, 3, 5), (1, 5, 2, 8), (2, 7, 1, 16), (1, 16, 2, 64), (2, 17, 3, 8), (1, 17, 1, 72),
      (2, 33, 3, 32), (1, 63, 1, 5), (1, 64, 2, 8), (2, 65, 2, 8), (1, 130, 2, 72), (2, 300, 3, 5), (1, 300, 1, 64),
      (1, 1100, 1, 16),
    ].map { AttentionCase($0, $1, $2, $3).by(.blas) }
  }

  /// 513 tokens are one more than a block of keys, 1100 three; 130 and 77 end inside a block of 128 queries, 256 at its
  /// end.
  private static var packed: [AttentionCase] {
    [
      (1, 1, 1, 1), (2, 5, 3, 9), (2, 17, 3, 9), (1, 5, 1, 72), (2, 77, 2, 64), (1, 130, 3, 9), (1, 256, 1, 64),
      (2, 256, 1, 9), (1, 513, 1, 72), (1, 513, 2, 9), (2, 700, 3, 9), (1, 1100, 1, 9),
    ].flatMap { AttentionCase($0, $1, $2, $3).inBothFormats }
  }

  /// Logits that are large, shifted or one-sided.
  public static let hard: [AttentionCase] =
    [Logits.wide, .low, .high].flatMap { logits in
      [17, 130].map { AttentionCase(1, $0, 2, 16).with(logits).by(.blas) }
    }
    + Logits.allCases.dropFirst().flatMap { logits in
      [AttentionCase(1, 17, 2, 16), AttentionCase(1, 515, 1, 16)].flatMap { $0.with(logits).inBothFormats }
    }
    // All logits inside near −400: without a token outside, its e^−m must not be formed; with one, it has all the weight.
    + [Reference.Windows.Mask.soft, .hard].flatMap { mask in
      [
        AttentionCase(mask, [4, 17, 30], tokens: 17, size: 16), AttentionCase(mask, [200, 300], tokens: 300, size: 16),
        AttentionCase(mask, [3, 5], tokens: 25, size: 16, columns: 5),
      ].flatMap { c in
        var c = c.with(.low)
        c.windows.scales = c.windows.scales.map { _ in 0.25 }
        return c.inBothFormats
      }
    }

  /// 130 and 300 image tokens end inside a second and a third block of queries; 700 and 1100 have windows across two and
  /// three blocks of keys, odd ends among them. Widths: a token alone, a few, most, one less than all, all, more than all.
  private static var windowed: [AttentionCase] {
    let unmasked = [
      AttentionCase(.none, [1, 1], tokens: 70, heads: 2, size: 8),
      AttentionCase(.none, [1, 1, 1], tokens: 140, size: 9, prefix: 6, prefixKeys: [6, 1, 0]),
      AttentionCase(.none, [1, 1], tokens: 30, size: 9, prefix: 600, prefixKeys: [599, 20]),
    ]
    return (masked(.soft) + masked(.hard) + unmasked).flatMap(\.inBothFormats)
  }

  private static func masked(_ mask: Reference.Windows.Mask) -> [AttentionCase] {
    [
      AttentionCase(mask, [1, 3, 16, 17, 40], tokens: 17, heads: 2, size: 5),
      AttentionCase(mask, [1, 20, 129, 130], tokens: 130, size: 9),
      AttentionCase(mask, [33, 299], tokens: 300, heads: 2, size: 72),
      AttentionCase(mask, [90, 401], tokens: 700, size: 16), AttentionCase(mask, [275], tokens: 1100, size: 9),
      // The first row of the second block of queries has token 0 alone outside its window, the last of the first the last.
      AttentionCase(mask, [128], tokens: 256, size: 9),
      AttentionCase(mask, [1, 2, 5, 9], tokens: 54, size: 8, columns: 9),
      AttentionCase(mask, [3, 17], tokens: 23 * 30, size: 8, columns: 30),
      AttentionCase(mask, [2, 9, 5], tokens: 140, heads: 2, size: 9, prefix: 7, prefixKeys: [7, 3, 0]),
      AttentionCase(mask, [4, 7], tokens: 12 * 12, size: 8, columns: 12, prefix: 130, prefixKeys: [130, 77]),
      AttentionCase(mask, [1], tokens: 1, size: 3),
    ]
  }

  /// - Parameters:
  ///   - widths: k of each sample.
  ///   - columns: for the distance on the grid.
  ///   - prefixKeys: of each sample, where there is a prefix.
  private init(
    _ mask: Reference.Windows.Mask, _ widths: [Int], tokens: Int, heads: Int = 1, size: Int, columns: Int? = nil,
    prefix: Int = 0, prefixKeys: [Int] = []
  ) {
    self.init(widths.count, prefix + tokens, heads, size)
    (windows.mask, windows.widths, windows.columns) = (mask, widths, columns)
    (windows.prefix, windows.prefixKeys) = (prefix, prefixKeys)
    var draw = Draw(seed: 131)
    // Rounded to float32, as the kernels take them.
    windows.scales = draw.normal(widths.count * heads).map { Double(0.3 + abs($0) / 4) }
  }

  private func by(_ method: AttentionMethod) -> AttentionCase {
    var c = self
    c.method = method
    return c
  }

  private func with(_ logits: Logits) -> AttentionCase {
    var c = self
    c.logits = logits
    return c
  }

  private var inBothFormats: [AttentionCase] {
    Format.all.map { format in
      var c = self
      c.format = format
      return c
    }
  }

  public static let differenced =
    [AttentionCase(2, 5, 2, 3).by(.blas), AttentionCase(1, 66, 1, 2).by(.blas), AttentionCase(2, 5, 2, 3)]
    + [.soft, .hard].map { AttentionCase($0, [2, 4], tokens: 6, heads: 2, size: 3, prefix: 1) }

  // MARK: - PyTorch and speed

  public static let fixtures =
    [AttentionMethod.blas, .packed].flatMap { method in
      ["one", "odd", "wide", "sharp", "long"].map { plain($0, method) }
    }
    + [
      "soft", "hard", "soft.grid", "hard.grid", "soft.prefix", "hard.prefix", "none.prefix", "soft.long", "soft.sharp",
    ].map { windowed($0) }

  private static func plain(_ name: String, _ method: AttentionMethod) -> KernelFixture {
    KernelFixture("attention, \(name), \(method)") {
      let (fixture, name) = (try Fixture("kernels"), "attention.\(name)")
      let shape = try fixture.shape("\(name).qkv")
      let heads = try fixture.integers("\(name).heads")[0]
      return try .init(
        kernel: AttentionCase(shape[0], shape[1], heads, shape[2] / 3 / heads).by(method),
        inputs: ["qkv": fixture.floats("\(name).qkv"), "dout": fixture.floats("\(name).dy")],
        results: ["out": fixture.doubles("\(name).y"), "dqkv": fixture.doubles("\(name).dqkv")])
    }
  }

  /// Padding attends too; its output is unused.
  private static func windowed(_ name: String) -> KernelFixture {
    KernelFixture("attention with windows, \(name)") {
      let fixture = try Fixture("windows")
      let (sizes, shape) = try (fixture.integers("\(name).sizes"), fixture.shape("\(name).qkv"))
      var c = AttentionCase(shape[0], shape[1], sizes[1], shape[2] / 3 / sizes[1])
      c.windows.mask = [.none, .soft, .hard][sizes[0]]
      (c.windows.prefix, c.windows.columns) = (sizes[2], sizes[3] > 0 ? sizes[3] : nil)
      c.windows.widths = try fixture.integers("\(name).widths")
      c.windows.prefixKeys = try fixture.integers("\(name).keys")
      let gate = try fixture.floats("\(name).gate")
      c.windows.scales = zip(try fixture.floats("\(name).base"), gate).map { Double($0 * $1) }
      // The gradient of a gate is that of a factor on the scale, over the gate.
      let dots = zip(try fixture.doubles("\(name).dgate"), gate).map { $0 * Double($1) }
      return try .init(
        kernel: c, inputs: ["qkv": fixture.floats("\(name).qkv"), "dout": fixture.floats("\(name).dy")],
        results: [
          "out": fixture.doubles("\(name).y"), "dqkv": fixture.doubles("\(name).dqkv"), "query dots": dots,
        ])
    }
  }

  /// The same number of rows as few long and many short sequences: 4 · samples · tokens² · width operations, 10 back.
  public static let measured = [(32, 64), (8, 256), (2, 1024)].flatMap { samples, tokens in
    let plain = AttentionCase(samples, tokens, 12, 64)
    let products = Double(samples * tokens * tokens * 768)
    return ([plain.by(.blas)] + plain.inBothFormats).flatMap { c in
      let way = c.method == .blas ? "" : "packed \(c.format), "
      var forward = c
      forward.isBackward = false
      return [
        KernelSpeed("attention, \(way)\(samples) × \(tokens) tokens", .operations(4 * products), forward),
        KernelSpeed("attentionBackward, \(way)\(samples) × \(tokens) tokens", .operations(10 * products), c),
      ]
    }
  }
}
