import DiTEngine
import Foundation

/// An evaluation as `dit evaluate` shows it.
struct EvaluationReport {
  let inputs: EvaluationInputs
  let options: EvaluationOptions
  /// Of the reference; nil for pixels and their components.
  let features: PictureFeatures?
  let evaluation: Evaluation

  // MARK: JSON

  var json: JSONValue {
    var members: [JSONMember] = []
    if let samples = inputs.samples { members.append(JSONMember("samples", Self.json(samples))) }
    members.append(JSONMember("reference", Self.json(inputs.reference)))
    if let training = inputs.training { members.append(JSONMember("training", Self.json(.samples(training)))) }
    members.append(JSONMember("features", .string(space)))
    if let features {
      members.append(JSONMember("features_file", .string(FileName.shown(features.network.path))))
      members.append(JSONMember("resize", .string(features.resize.rawValue)))
    }
    members.append(JSONMember("dimensions", .integer(evaluation.dimensions)))
    if let share = evaluation.explainedVariance { members.append(JSONMember("explained_variance", .number(share))) }
    if let frechet = evaluation.frechet { members.append(JSONMember("frechet", json(frechet))) }
    if let spatial = evaluation.spatialFrechet {
      members.append(JSONMember("spatial_frechet", .object(Self.terms(spatial))))
    }
    for (name, score) in scores {
      members.append(
        JSONMember(
          name,
          .object([
            JSONMember("mean", .number(score.mean)), JSONMember("standard_deviation", .number(score.standardDeviation)),
            JSONMember("parts", .integer(score.parts)),
          ])))
    }
    if let found = evaluation.precisionRecall {
      let pairs = Self.pairs(found)
      members.append(JSONMember("precision_recall", .object([JSONMember("k", .integer(found.k))] + pairs)))
    }
    if let found = evaluation.densityCoverage {
      let pairs = Self.pairs(found)
      members.append(JSONMember("density_coverage", .object([JSONMember("k", .integer(found.k))] + pairs)))
    }
    if let copies = evaluation.copies { members.append(JSONMember("copies", Self.json(copies))) }
    if let classes = evaluation.classes {
      members.append(JSONMember("classes", .array(classes.map(json))))
      members.append(JSONMember("class_mean", .object(Self.means(classes))))
    }
    members.append(JSONMember("warnings", .array(evaluation.warnings.map { .string(FileName.shown($0)) })))
    return .object(members)
  }

  private var scores: [(String, InceptionScore)] {
    evaluation.inceptionScore.map { [("inception_score", $0)] } ?? []
  }

  private var space: String {
    if let features { return features.network.kind.rawValue }
    return switch options.features {
    case .pixels: "pixels"
    case .principal(let count): "pca:\(count)"
    }
  }

  private static func json(_ input: EvaluationInput) -> JSONValue {
    guard let set = input.set else {
      return .object([
        JSONMember("name", .string(FileName.shown(input.name))), JSONMember("statistics", .bool(true)),
        JSONMember("shape", .array([.integer(input.depth)])),
      ])
    }
    return .object([
      JSONMember("name", .string(FileName.shown(set.name))), JSONMember("count", .integer(set.count)),
      JSONMember("shape", .array(set.shape.map { .integer($0) })),
    ])
  }

  private func json(_ frechet: FrechetDistance) -> JSONValue {
    var members = Self.terms(frechet)
    if let bootstrap = evaluation.bootstrap {
      members.append(
        JSONMember(
          "bootstrap",
          .object([
            JSONMember("resamples", .integer(bootstrap.values.count)),
            JSONMember("seed", .integer(Int(bootstrap.seed))), JSONMember("mean", .number(bootstrap.mean)),
            JSONMember("standard_error", .number(bootstrap.standardError)),
            JSONMember("low", .number(bootstrap.low)), JSONMember("high", .number(bootstrap.high)),
            JSONMember("level", .number(Bootstrap.level)),
            JSONMember("values", .array(bootstrap.values.map { .number($0) })),
          ])))
    }
    return .object(members)
  }

  private static func terms(_ frechet: FrechetDistance) -> [JSONMember] {
    [
      JSONMember("distance", .number(frechet.value)), JSONMember("mean_term", .number(frechet.meanTerm)),
      JSONMember("covariance_term", .number(frechet.covarianceTerm)),
    ]
  }

  private static func json(_ copies: CopyCheck) -> JSONValue {
    let numbers: [(String, Double?)] = [
      ("mean_distance", copies.meanDistance), ("own_mean_distance", copies.ownMeanDistance), ("ratio", copies.ratio),
      ("median_relative", copies.medianRelative), ("reference_mean_distance", copies.referenceMeanDistance),
      ("reference_ratio", copies.referenceRatio),
    ]
    return .object(
      [
        JSONMember("against", .string(FileName.shown(copies.against))), JSONMember("exact", .integer(copies.exact)),
        JSONMember(
          "exact_pairs", .array(copies.exactPairs.map { .array([.integer($0.sample), .integer($0.training)]) })),
        JSONMember("near", .integer(copies.near)),
      ] + members(numbers))
  }

  private func json(_ entry: ClassEvaluation) -> JSONValue {
    var members = [JSONMember("label", .integer(entry.label))]
    if let name = name(entry.label) { members.append(JSONMember("name", .string(name))) }
    members.append(JSONMember("samples", .integer(entry.samples)))
    members.append(JSONMember("reference", .integer(entry.reference)))
    return .object(members + Self.members(Self.columns(entry)))
  }

  /// Of each column the mean over the classes that have it.
  private static func means(_ classes: [ClassEvaluation]) -> [JSONMember] {
    let rows = classes.map(columns)
    return members(
      (rows.first ?? []).indices.map { column in
        let values = rows.compactMap { $0[column].1 }
        return (rows[0][column].0, values.isEmpty ? nil : values.reduce(0, +) / Double(values.count))
      })
  }

  private static func columns(_ entry: ClassEvaluation) -> [(String, Double?)] {
    [
      ("frechet", entry.frechet?.value), ("mean_distance", entry.meanDistance),
      ("precision", entry.precisionRecall?.precision), ("recall", entry.precisionRecall?.recall),
      ("density", entry.densityCoverage?.density), ("coverage", entry.densityCoverage?.coverage),
    ]
  }

  private static func pairs(_ found: PrecisionRecall) -> [JSONMember] {
    [JSONMember("precision", .number(found.precision)), JSONMember("recall", .number(found.recall))]
  }

  private static func pairs(_ found: DensityCoverage) -> [JSONMember] {
    [JSONMember("density", .number(found.density)), JSONMember("coverage", .number(found.coverage))]
  }

  private static func members(_ numbers: [(String, Double?)]) -> [JSONMember] {
    numbers.compactMap { name, value in value.map { JSONMember(name, .number($0)) } }
  }

  private func name(_ label: Int) -> String? {
    guard let names = inputs.classNames, names.indices.contains(label) else { return nil }
    return names[label]
  }

  // MARK: Table

  var table: String {
    var lines: [(String, String)] = []
    if let samples = inputs.samples { lines.append(("samples", Self.text(samples))) }
    lines.append(("reference", Self.text(inputs.reference)))
    if let training = inputs.training { lines.append(("training", Self.text(.samples(training)))) }
    let share = evaluation.explainedVariance.map { String(format: ", %.1f %% of the variance", 100 * $0) } ?? ""
    let resize = features.map { ", resized as \($0.resize.rawValue)" } ?? ""
    lines.append(("features", "\(space), \(evaluation.dimensions) numbers\(share)\(resize)"))
    if let frechet = evaluation.frechet { lines += text(frechet) }
    if let spatial = evaluation.spatialFrechet { lines.append(("sFID", Self.text(terms: spatial))) }
    for (_, score) in scores {
      lines.append(
        (
          "Inception Score",
          Self.text(score.mean) + " ± " + Self.text(score.standardDeviation) + "   (\(score.parts) parts)"
        ))
    }
    if let found = evaluation.precisionRecall {
      lines.append(("precision", Self.text(found.precision) + "   (k = \(found.k))"))
      lines.append(("recall", Self.text(found.recall)))
    }
    if let found = evaluation.densityCoverage {
      lines.append(("density", Self.text(found.density) + "   (k = \(found.k))"))
      lines.append(("coverage", Self.text(found.coverage)))
    }
    if let copies = evaluation.copies { lines += Self.text(copies) }
    let head = lines.map { "\($0.0)\(String(repeating: " ", count: max(1, 18 - $0.0.count)))\($0.1)\n" }.joined()
    return head + (evaluation.classes.map { "\n" + classTable($0) } ?? "")
  }

  private func text(_ frechet: FrechetDistance) -> [(String, String)] {
    let isFID = features?.network.kind == .inceptionV3
    var lines = [(isFID ? "FID" : "Fréchet distance", Self.text(terms: frechet))]
    if let bootstrap = evaluation.bootstrap {
      let interval = "\(Self.text(bootstrap.low)) to \(Self.text(bootstrap.high))"
      lines.append(
        ("  95 % interval", "\(interval)   (\(bootstrap.values.count) resamples of the samples)"))
    }
    return lines
  }

  private static func text(terms frechet: FrechetDistance) -> String {
    text(frechet.value) + "   (means \(text(frechet.meanTerm)), covariances \(text(frechet.covarianceTerm)))"
  }

  private static func text(_ copies: CopyCheck) -> [(String, String)] {
    let named = copies.exactPairs.prefix(10).map { "\($0.sample) = \($0.training)" }.joined(separator: ", ")
    let more = copies.exact > 10 ? ", …" : ""
    var lines = [
      ("copies", "\(copies.exact) exact, \(copies.near) near   (against \(copies.against))")
    ]
    if !named.isEmpty { lines.append(("  sample = image", named + more)) }
    let ratio = copies.ratio.map { "   (\(text($0)) of that between training images)" } ?? ""
    lines.append(("  nearest", "\(text(copies.meanDistance)) on average\(ratio)"))
    if let mean = copies.referenceMeanDistance, let ratio = copies.referenceRatio {
      lines.append(("  of reference", "\(text(mean)) on average   (samples: \(text(ratio)) of it)"))
    }
    return lines
  }

  private static func text(_ input: EvaluationInput) -> String {
    guard let set = input.set else { return "\(input.name), statistics of \(input.depth) numbers" }
    return "\(set.name), \(set.count) of \(set.shape.map(String.init).joined(separator: "×"))"
  }

  private static func text(_ value: Double) -> String { String(format: "%.4f", value) }

  private func classTable(_ classes: [ClassEvaluation]) -> String {
    let titles = ["class", "samples", "reference", "frechet", "means", "precision", "recall", "density", "coverage"]
    var rows = classes.map { entry in
      [name(entry.label) ?? "\(entry.label)", "\(entry.samples)", "\(entry.reference)"]
        + Self.columns(entry).map { $0.1.map(Self.text) ?? "–" }
    }
    let means = Dictionary(uniqueKeysWithValues: Self.means(classes).map { ($0.key, $0.value) })
    let names = classes.first.map { Self.columns($0).map(\.0) } ?? []
    rows.append(
      ["mean", "", ""]
        + names.map { name in if case .number(let value)? = means[name] { Self.text(value) } else { "–" } })
    let kept = titles.indices.filter { column in column < 3 || rows.contains { $0[column] != "–" } }
    let widths = titles.map(\.count)
    let first = max(5, rows.map { $0[0].count }.max() ?? 0)
    return ([titles] + rows).map { row in
      kept.map { column in
        let width = column == 0 ? first : max(widths[column], 8)
        let padding = String(repeating: " ", count: max(0, width - row[column].count))
        return column == 0 ? row[column] + padding : padding + row[column]
      }.joined(separator: "  ") + "\n"
    }.joined()
  }
}
