import Foundation
import Testing

/// `--help` names every command and every option, and says what it is.
@Suite("--help") struct HelpTests {
  private static let options: [(command: String, options: [String])] = [
    (
      "sample",
      [
        "--model", "--weights", "--heads", "--config", "--family", "--precision", "--gemm", "--threads", "--classes",
        "--count",
        "--prompt",
        "--context", "--image", "--strength", "--mask", "--feather",
        "--steps", "--schedule",
        "--shift", "--sampler", "--eta", "--tolerance",
        "--guidance", "--guidance-interval", "--guidance-channels", "--guidance-every", "--fast", "--cache", "--seed",
        "--rng",
        "--noise", "--trajectory",
        "--preview", "--shard", "--distributed", "--mixed-cpus", "--out",
      ]
    ),
    (
      "train",
      [
        "--data", "--out", "--config", "--from", "--steps", "--schedule-steps", "--batch", "--seed", "--resume",
        "--recompute",
        "--broken-images", "--tensorboard", "--weights", "--heads",
        "--precision", "--gemm", "--threads", "--distributed", "--mixed-cpus", "--no-overlap",
      ]
    ),
    ("mpi-info", []),
    ("info", ["--heads", "--config", "--family", "--threads", "--json"]),
    ("convert", ["--to", "--dtype", "--force", "--weights", "--heads", "--config", "--family", "--threads"]),
    (
      "schedule",
      ["--heads", "--config", "--family", "--steps", "--schedule", "--shift", "--sampler", "--json", "--out"]
    ),
    (
      "forward",
      [
        "--model", "--weights", "--heads", "--config", "--family", "--precision", "--gemm", "--threads", "--input",
        "--out",
      ]
    ),
    (
      "loss",
      [
        "--model", "--weights", "--heads", "--config", "--family", "--precision", "--gemm", "--threads", "--input",
        "--loss-weighting",
        "--min-snr-gamma",
        "--lambda-seq", "--out",
      ]
    ),
    (
      "invert",
      [
        "--model", "--weights", "--heads", "--config", "--family", "--precision", "--gemm", "--threads", "--input",
        "--steps",
        "--schedule", "--shift",
        "--guidance",
        "--guidance-interval",
        "--guidance-channels", "--guidance-every", "--out",
      ]
    ),
    ("encode", ["--model", "--precision", "--gemm", "--threads", "--size", "--flips", "--draw", "--seed"]),
    ("decode", ["--model", "--precision", "--gemm", "--threads"]),
    (
      "evaluate",
      [
        "--samples", "--reference", "--training", "--features", "--resize", "--measures", "--k", "--density-k",
        "--bootstrap",
        "--seed", "--size", "--no-per-class", "--save-statistics", "--save-features", "--json", "--out", "--threads",
        "--distributed",
        "--mixed-cpus",
      ]
    ),
  ]

  @Test("Help lists every command and every option with a description and an example")
  func everyCommandAndOption() async throws {
    let root = try await succeed(["--help"]).stdout
    for (command, options) in Self.options {
      #expect(root.contains("\n  \(command) "), "\(command)")
      let help = try await succeed([command, "--help"]).stdout
      #expect(help.contains("  dit \(command)"), "\(command) has an example")
      let listed = help.matches(of: /(?m)^  (--[a-z-]+)/).map { String($0.1) }
      #expect(listed == options, "\(command)")
      let undescribed = help.matches(of: /(?m)^  (--[a-z-]+)( <[a-z,]+>)?\s*\n  -/).map { String($0.1) }
      #expect(undescribed.isEmpty, "\(command)")
    }
  }

  /// Every word of the network's and the diffusion's keys.
  @Test("Help names every word that the configuration keys take")
  func wordsAreInTheHelp() async throws {
    let help = try await succeed(["train", "--help"]).stdout
    for line in [
      "sincos, learned, rope", "dit, diffusers, literal", "shared, per_block",
      "adaln_zero, adaln, additive, in_context",
      "standard, sqrt_beta, inverse_sqrt_beta", "none, soft, hard", "signal, noise, full", "raster, grid",
      "linear, cosine, scaled_linear", "epsilon, mean, x0, v, velocity, flow", "beta, linear", "1000s, s, 1-s",
      "ema_decays", "fixed_small, fixed_large, learned_range",
      "ddpm, ddim, dpmpp, unipc, euler, heun", "\"text\"", "\"context_image\"",
    ] {
      #expect(help.contains(line), "\(line)")
    }
  }

  @Test("Help explains every exit status")
  func statusesAreInTheHelp() async throws {
    let help = try await succeed(["--help"]).stdout
    for status in ["0", "64", "65", "130", "1"] {
      #expect(help.firstMatch(of: try Regex("(?m)^ +\(status)  [a-z]")) != nil, "\(status)")
    }
  }
}
