import DiTFiles
import DiTImaging
import DiTNumpy
import DiTTensor
import Foundation
import TestSupport
import Testing

/// `dit evaluate`, as a person runs it. The figures themselves are tested in DiTEvaluationTests.
@Suite("dit evaluate") struct EvaluateTests {
  private let scratch: Scratch
  private static let fixture = Fixture.path("../evaluation/")

  init() throws { scratch = try Scratch() }

  /// Writes the images of a case as a data file.
  private func set(_ name: String, labels: String? = nil) throws -> String {
    let file = try SafetensorsFile(contentsOf: Self.fixture + "evaluation.safetensors")
    let images = try file.numbers(name)
    let isBytes = try file.requireEntry(named: name).dtype == .u8
    var tensors = [
      isBytes
        ? TensorSource("images", shape: images.shape, bytes: images.elements.map { UInt8($0) })
        : TensorSource("images", images)
    ]
    if let labels { tensors.append(TensorSource("labels", labels: try file.integers(labels).values)) }
    return try scratch.write(tensors, to: "\(name).safetensors")
  }

  private func regular() throws -> [String] {
    [
      "--samples", try set("regular.samples", labels: "regular.sample_labels"),
      "--reference", try set("regular.reference", labels: "regular.reference_labels"),
    ]
  }

  private func expected(_ name: String) throws -> [Double] {
    try SafetensorsFile(contentsOf: Self.fixture + "evaluation.safetensors").doubles(name).values
  }

  private func json(_ arguments: [String]) async throws -> [String: Any] {
    let text = try await succeed(["evaluate", "--json"] + arguments).stdout
    return try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  private func number(_ object: [String: Any], _ path: String...) -> Double {
    var value: Any? = object
    for key in path { value = (value as? [String: Any])?[key] }
    return (value as? Double) ?? .nan
  }

  private func isClose(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 1e-6 * abs(b) }

  @Test("The JSON output has every documented key with the reference's numbers")
  func everyKey() async throws {
    let found = try await json(try regular() + ["--bootstrap", "5", "--seed", "3"])
    let distance = try expected("regular.frechet").reduce(0, +)
    #expect(isClose(number(found, "frechet", "distance"), distance))
    let shares = try expected("regular.neighbourhoods")
    let keys = [
      ("precision_recall", "precision"), ("precision_recall", "recall"), ("density_coverage", "density"),
      ("density_coverage", "coverage"),
    ]
    for (key, share) in zip(keys, shares) { #expect(isClose(number(found, key.0, key.1), share), "\(key)") }
    let bootstrap = try #require((found["frechet"] as? [String: Any])?["bootstrap"] as? [String: Any])
    #expect(
      Set(bootstrap.keys) == ["resamples", "seed", "mean", "standard_error", "low", "high", "level", "values"])
    #expect((bootstrap["values"] as? [Double])?.count == 5 && number(bootstrap, "seed") == 3)
    #expect(number(found, "dimensions") == 30 && found["features"] as? String == "pixels")
    let classes = try #require(found["classes"] as? [[String: Any]])
    #expect(classes.count == 3 && number(classes[1], "label") == 1 && number(classes[1], "samples") == 40)
    let means = try expected("regular.class_frechet").reduce(0, +) / 3
    #expect(isClose(number(found, "class_mean", "frechet"), means))
    #expect(number(found, "samples", "count") == 120 && number(found, "reference", "count") == 90)
    let copies = try #require(found["copies"] as? [String: Any])
    #expect(
      Set(copies.keys) == [
        "against", "exact", "exact_pairs", "near", "mean_distance", "own_mean_distance", "ratio", "median_relative",
      ])
  }

  @Test("Every option changes what it says and nothing else")
  func everyOptionCounts() async throws {
    let sets = try regular()
    let plain = try await json(sets)
    let frechet = try await json(sets + ["--measures", "frechet", "--no-per-class"])
    #expect(frechet["precision_recall"] == nil && frechet["copies"] == nil && frechet["classes"] == nil)
    #expect(number(frechet, "frechet", "distance") == number(plain, "frechet", "distance"))
    let pca = try await json(sets + ["--features", "pca:4", "--threads", "1"])
    #expect(isClose(number(pca, "frechet", "distance"), try expected("regular.pca")[0]))
    #expect(isClose(number(pca, "explained_variance"), try expected("regular.pca")[1]))
    let wide = try await json(sets + ["--k", "9", "--density-k", "2", "--measures", "precision,density"])
    #expect(wide["frechet"] == nil && number(wide, "precision_recall", "k") == 9)
    #expect(number(wide, "density_coverage", "k") == 2)
    #expect(number(wide, "precision_recall", "recall") > number(plain, "precision_recall", "recall"))
    let training = try await json(sets + ["--training", sets[1], "--out", scratch.path("o.json")])
    #expect(number(training, "copies", "exact") == 120 && number(training, "training", "count") == 120)
    #expect(number(training, "copies", "reference_ratio") == 0)
    let written = try JSONSerialization.jsonObject(with: scratch.bytes("o.json")) as? [String: Any]
    #expect(number(try #require(written), "copies", "exact") == 120)
    func values(_ seed: String) async throws -> [Double]? {
      let found = try await json(sets + ["--bootstrap", "3", "--seed", seed, "--measures", "frechet"])
      return ((found["frechet"] as? [String: Any])?["bootstrap"] as? [String: Any])?["values"] as? [Double]
    }
    let (one, again, two) = (try await values("1"), try await values("1"), try await values("2"))
    #expect(one == again && one != two)
  }

  @Test("digits, digits:train and digits:test name the shipped data and its splits")
  func digitsAndTheirParts() async throws {
    let found = try await json(["--samples", "digits:train", "--reference", "digits:test", "--measures", "frechet"])
    #expect(number(found, "samples", "count") == 1438 && number(found, "reference", "count") == 359)
    // What Scripts/judge_digits.py calls frechet_train.
    let distance = number(found, "frechet", "distance")
    #expect(isClose(distance, 0.5237322802751265), "\(distance)")
    let table = try await succeed(["evaluate", "--samples", "digits:test", "--reference", "digits"]).stdout
    for line in ["Fréchet distance", "359 exact", "precision", "coverage", "class   samples"] {
      #expect(table.contains(line), "\(line)")
    }
  }

  @Test("NumPy archives of statistics and of images, stored or compressed, are read")
  func archivesOfNumpy() async throws {
    let sets = try regular()
    let distance = try expected("regular.frechet").reduce(0, +)
    for name in ["statistics", "statistics-compressed"] {
      let found = try await json(["--samples", sets[1], "--reference", Self.fixture + "\(name).npz"])
      #expect(isClose(number(found, "frechet", "distance"), distance), "\(name)")
      #expect(found["copies"] == nil && found["classes"] == nil)
    }
    let found = try await json([
      "--samples", Self.fixture + "images-compressed.npz", "--reference",
      try set("bytes.reference", labels: "bytes.reference_labels"),
    ])
    #expect(isClose(number(found, "frechet", "distance"), try expected("bytes.frechet").reduce(0, +)))
    #expect(isClose(number(found, "class_mean", "frechet"), try expected("bytes.class_frechet").reduce(0, +) / 3))
  }

  /// 1×8×8 pictures of 8 bits, with classes.
  private func pictures(_ name: String, _ count: Int) throws -> String {
    let bytes = hashed(name, count * 64).map { UInt8(256 * $0) }
    return try scratch.write(
      [
        TensorSource("images", shape: [count, 1, 8, 8], bytes: bytes),
        TensorSource("labels", labels: (0..<count).map { $0 % 2 }),
      ], to: "\(name).safetensors")
  }

  private func network(_ name: String) throws -> String {
    let weights = try HashedWeights(name)
    return try scratch.write(
      try weights.keys.map {
        TensorSource($0.name, Tensor(shape: $0.shape, elements: try weights.slice($0.name).array))
      },
      to: "\(name)-weights.safetensors")
  }

  @Test("A network's file measures its features, under its own name; its statistics stand for the pictures")
  func features() async throws {
    let (a, b, lite) = (try pictures("a", 12), try pictures("b", 12), try network("efficientnet"))
    let sets = ["--samples", a, "--reference", b, "--features", lite]
    let found = try await json(
      sets + ["--save-statistics", scratch.path("b.npz"), "--save-features", scratch.path("a-features.safetensors")])
    #expect(found["features"] as? String == "efficientnet-lite0" && found["resize"] as? String == "efficientnet-lite")
    #expect(found["features_file"] as? String == lite && number(found, "dimensions") == 1280)
    #expect(found["spatial_frechet"] == nil && found["inception_score"] == nil && found["copies"] == nil)
    #expect((found["classes"] as? [Any])?.count == 2)
    let distance = number(found, "frechet", "distance")
    let other = try await json(sets + ["--resize", "clean-fid", "--measures", "frechet"])
    #expect(
      abs(number(other, "frechet", "distance") / distance - 1) > 1e-3 && other["resize"] as? String == "clean-fid")
    let kept = try await json(["--samples", a, "--reference", scratch.path("b.npz"), "--features", lite])
    #expect(abs(number(kept, "frechet", "distance") / distance - 1) < 1e-6)
    #expect(kept["precision_recall"] == nil && kept["copies"] == nil)
    let table = try await succeed(["evaluate"] + sets + ["--measures", "frechet"]).stdout
    #expect(
      table.contains("Fréchet distance") && !table.contains("FID") && table.contains("resized as efficientnet-lite"))
    // Kept features are a set like any other.
    let saved = try scratch.tensors("a-features.safetensors")
    #expect(saved.names.sorted() == ["features", "labels", "logits"])
    #expect(try saved.requireEntry(named: "logits").shape == [12, 1000])
    let again = try await json([
      "--samples", scratch.path("a-features.safetensors"), "--reference", scratch.path("b.npz"), "--measures",
      "frechet",
    ])
    #expect(number(again, "frechet", "distance") == number(kept, "frechet", "distance"))
    _ = try await succeed([
      "evaluate", "--reference", b, "--features", lite, "--save-statistics", scratch.path("c.npz"),
    ])
    #expect(try scratch.bytes("c.npz") == scratch.bytes("b.npz"))
  }

  @Test("Inception's file gives FID, sFID and the Inception Score, and ADM's statistics")
  func inception() async throws {
    let (a, b, file) = (try pictures("a", 3), try pictures("b", 3), try network("inception"))
    let sets = ["--samples", a, "--reference", b, "--features", file]
    let measures = ["--measures", "frechet,spatial,inception"]
    let found = try await json(sets + measures + ["--save-statistics", scratch.path("b.npz")])
    #expect(found["features"] as? String == "inception-v3" && found["resize"] as? String == "pytorch-fid")
    #expect(number(found, "dimensions") == 2048 && number(found, "inception_score", "parts") == 1)
    let archive = try NPZFile(contentsOf: scratch.path("b.npz"))
    #expect(archive.names == ["mu", "sigma", "mu_s", "sigma_s"])
    #expect(try archive.array("sigma_s")?.shape == [2023, 2023])
    let kept = try await json(["--samples", a, "--reference", scratch.path("b.npz"), "--features", file] + measures)
    for key in ["frechet", "spatial_frechet"] {
      #expect(abs(number(kept, key, "distance") / number(found, key, "distance") - 1) < 1e-6, "\(key)")
    }
    let table = try await succeed(["evaluate"] + sets + measures).stdout
    for line in ["FID  ", "sFID  ", "Inception Score"] { #expect(table.contains(line), "\(line)") }
  }

  @Test("What features cannot do is said of the option")
  func badFeatures() async throws {
    let (a, lite) = (try pictures("a", 6), try network("efficientnet"))
    let sets = ["evaluate", "--samples", a, "--reference", a]
    try await expectFailure(
      sets + ["--resize", "clean-fid"], 64, ["--resize", "a network's file as --features", "pixels"])
    try await expectFailure(
      sets + ["--features", lite, "--resize", "best"], 64, ["--resize", "torch-fidelity", "best"])
    try await expectFailure(
      sets + ["--save-features", scratch.path("f.safetensors")], 64, ["--save-features", "a network's file", "pixels"])
    try await expectFailure(sets + ["--measures", "spatial"], 64, ["--measures", "a network's file", "spatial"])
    try await expectFailure(
      sets + ["--features", lite, "--measures", "inception"], 64, ["--measures", "Inception with its classifier"])
    try await expectFailure(sets + ["--features", "none.pth"], 65, ["none.pth", "no such file"])
    try await expectFailure(sets + ["--features", a], 65, ["FID's Inception-v3 or of EfficientNet-Lite0", "images"])
    try await expectFailure(
      ["evaluate", "--samples", a, "--reference", Self.fixture + "statistics.npz", "--features", lite], 65,
      ["statistics.npz", "mu", "1280 numbers"])
    try await expectFailure(
      ["evaluate", "--reference", a, "--features", "pca:3", "--save-statistics", scratch.path("x.npz")], 64,
      ["--features", "--samples with it"])
    // Before the features, which may take hours.
    let few = try pictures("few", 4)
    try await expectFailure(
      ["evaluate", "--samples", a, "--reference", few, "--features", lite], 65,
      ["few.safetensors", "at least 6 samples"])
    let statistics = Self.fixture + "statistics.npz"
    try await expectFailure(
      [
        "evaluate", "--samples", statistics, "--reference", a, "--features", lite, "--save-features",
        scratch.path("f.safetensors"),
      ],
      64, ["--save-features", "samples, which statistics are not"])
    try await expectFailure(
      sets + ["--features", lite, "--training", try set("regular.samples")], 64,
      ["--training", "[2, 3, 5]", "[1, 8, 8]"])
  }

  /// Written statistics stand for the set, and are laid out as numpy's.
  @Test("Saved statistics stand for their set and agree with NumPy's")
  func savedStatistics() async throws {
    let sets = try regular()
    let path = scratch.path("s.npz")
    let quiet = try await succeed(["evaluate", "--reference", sets[3], "--save-statistics", path])
    #expect(quiet.stdout.isEmpty)
    let distance = try expected("regular.frechet").reduce(0, +)
    #expect(
      isClose(number(try await json(["--samples", sets[1], "--reference", path]), "frechet", "distance"), distance))
    let both = try await json(["--samples", path, "--reference", Self.fixture + "statistics.npz"])
    #expect(abs(number(both, "frechet", "distance")) < 1e-10)
  }

  /// A folder of pictures is the same set as a file of their pixels.
  @Test("A folder of pictures is the same set as a file of their pixels")
  func foldersOfPictures() async throws {
    var random = Philox(seed: 5)
    let bytes = (0..<24 * 64).map { _ in UInt8(truncatingIfNeeded: random.next() >> 40) }
    for n in 0..<24 {
      let folder = scratch.path("pictures/\(["b", "a"][n % 2])")
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      let pixels = Array(bytes[n * 64..<(n + 1) * 64])
      try Image(width: 8, height: 8, channels: 1, pixels: pixels).writePNG(to: "\(folder)/\(n + 10).png")
    }
    // a holds the odd ones, and comes first.
    let order = (0..<24).filter { $0 % 2 == 1 } + (0..<24).filter { $0 % 2 == 0 }
    let file = try scratch.write(
      [
        TensorSource("images", shape: [24, 1, 8, 8], bytes: order.flatMap { bytes[$0 * 64..<($0 + 1) * 64] }),
        TensorSource("labels", labels: [Int](repeating: 0, count: 12) + [Int](repeating: 1, count: 12)),
      ], to: "pictures.safetensors")
    let folder = scratch.path("pictures")
    let same = try await json(["--samples", folder, "--reference", file])
    #expect(number(same, "copies", "exact") == 24 && abs(number(same, "frechet", "distance")) < 1e-9)
    #expect((same["classes"] as? [[String: Any]])?.count == 2)
    let turned = try await json(["--samples", file, "--reference", folder, "--training", folder + ":train"])
    #expect(number(turned, "reference", "count") == 24 && number(turned, "training", "count") == 20)
    let sized = try await json([
      "--samples", folder + ":test", "--reference", folder, "--size", "4x2", "--measures", "frechet",
    ])
    #expect(number(sized, "dimensions") == 3 * 4 * 2 && number(sized, "samples", "count") == 4)
    let statistics = scratch.path("folder.npz")
    _ = try await succeed(["evaluate", "--reference", folder, "--size", "2", "--save-statistics", statistics])
    let found = try await json(["--samples", folder, "--size", "2", "--reference", statistics])
    #expect(abs(number(found, "frechet", "distance")) < 1e-9)
    for (arguments, status, words) in [
      (["--samples", folder, "--reference", folder], Int32(64), ["--size", "none"]),
      (["--samples", folder, "--reference", folder, "--size", "0"], 64, ["--size", "1 to 8192"]),
      (["--samples", folder, "--reference", folder, "--size", "8x8x8"], 64, ["--size", "HxW"]),
      (
        ["--samples", folder, "--reference", try set("regular.reference")], 65,
        ["pictures", "1 or 3 channels", "[2, 3, 5]"]
      ),
    ] { try await expectFailure(["evaluate"] + arguments, status, words) }
    try Data([1, 2, 3]).write(to: scratch.url.appending(path: "pictures/a/broken.png"))
    try await expectFailure(["evaluate", "--samples", folder, "--reference", file], 65, ["broken.png"])
  }

  @Test("Fewer samples than dimensions give a warning")
  func fewSamplesAreWarnedOf() async throws {
    let run = try await succeed([
      "evaluate", "--samples", try set("singular.samples"), "--reference", try set("singular.reference"),
    ])
    #expect(run.stderr.contains("Warning: ") && run.stderr.contains("14 samples of 20 numbers"))
  }

  @Test("Options and inputs that do not go together are refused by name")
  func optionsThatDoNotFit() async throws {
    let sets = try regular()
    let statistics = Self.fixture + "statistics.npz"
    let cases: [([String], Int32, [String])] = [
      (sets + ["--features", "pca:65"], 64, ["--features", "pca:64", "pca:65"]),
      (sets + ["--features", "inception"], 64, ["--features", "a network's file", "inception"]),
      (sets + ["--measures", "frechet,fid"], 64, ["--measures", "copies, found frechet,fid"]),
      (sets + ["--k", "0"], 64, ["--k", "0"]),
      (sets + ["--density-k", "0"], 64, ["--density-k", "0"]),
      (sets + ["--bootstrap", "10001"], 64, ["--bootstrap", "10001"]),
      (sets + ["--seed", "1"], 64, ["--seed", "--bootstrap"]),
      (sets + ["--bootstrap", "2", "--measures", "copies"], 64, ["--bootstrap", "frechet"]),
      (sets + ["--out", "x.txt"], 64, ["--out", ".json"]),
      (sets + ["--save-statistics", "x.txt"], 64, ["--save-statistics", ".npz"]),
      (sets + ["--k", "200"], 65, ["at least 201", "120"]),
      (["--reference", sets[3]], 64, ["--samples", "--save-statistics"]),
      (["--reference", sets[3], "--save-statistics", scratch.path("s.npz"), "--json"], 64, ["--json", "--samples"]),
      (["--samples", sets[1], "--reference", "cats"], 64, ["digits", "cats"]),
      (["--samples", sets[1], "--reference", "none.npz"], 65, ["none.npz", "no such file"]),
      (["--samples", sets[1], "--reference", "digits"], 65, ["regular.samples", "[1, 8, 8]", "[2, 3, 5]"]),
      (["--samples", sets[1], "--reference", statistics, "--measures", "copies"], 64, ["--measures", "copies"]),
      (["--samples", statistics, "--reference", statistics, "--bootstrap", "2"], 64, ["--bootstrap"]),
      (["--samples", sets[1], "--reference", statistics + ":test"], 65, ["statistics"]),
    ]
    for (arguments, status, words) in cases { try await expectFailure(["evaluate"] + arguments, status, words) }
  }

  @Test("A damaged NumPy archive exits with 65 and is named")
  func damagedArchives() async throws {
    let good = try Data(contentsOf: URL(filePath: Self.fixture + "images-compressed.npz"))
    let reference = try set("bytes.reference")
    var changed = good
    changed[100] ^= 0xFF
    let wrong = try scratch.write([TensorSource("labels", labels: [1])], to: "labels.safetensors")
    let cases = [
      (good.prefix(good.count / 2), "ZIP archive"), (changed, "entry arr_0.npy"),
      (try Data(contentsOf: URL(filePath: wrong)), "ZIP archive"),
    ]
    for (bytes, item) in cases {
      try bytes.write(to: scratch.url.appending(path: "bad.npz"))
      let arguments = ["--samples", scratch.path("bad.npz"), "--reference", reference, "--measures", "frechet"]
      try await expectFailure(["evaluate"] + arguments, 65, ["bad.npz", item])
    }
  }
}
