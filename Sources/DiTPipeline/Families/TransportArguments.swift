import DiTFiles
import DiTTensor

/// What the trainers of SiT, REPA and LightningDiT are started with, as it stands in their checkpoints: a `Namespace` under
/// `args` (SiT, REPA), the sections of a YAML file under `config` (LightningDiT).
enum TransportArguments {
  /// The family whose trainer has these arguments, and which of them tell; nil where none does.
  static func family(_ arguments: ProgramArguments) -> (family: ModelFamily, sign: String)? {
    for name in ["model_type", "model"] {
      guard let model = arguments.text(name), model.hasPrefix("LightningDiT") else { continue }
      return (.lightningdit, "its trainer's \(name) is \(model)")
    }
    guard arguments.text("path_type") != nil else { return nil }
    for name in ["enc_type", "encoder_depth", "proj_coeff"] where arguments.values[name] != nil {
      return (.repa, "its trainer's arguments have \(name)")
    }
    guard let model = arguments.text("model"), model.hasPrefix("SiT") else {
      return (.sit, "its trainer's arguments have path_type")
    }
    return (.sit, "its trainer's model is \(model)")
  }

  /// Throws where the network was trained for another process than the linear path's velocity.
  static func check(_ arguments: ProgramArguments, file: String) throws(DiTError) {
    for (name, known) in [("path_type", ["linear"]), ("prediction", ["velocity", "v"])] {
      guard let value = arguments.text(name), !known.contains(value.lowercased()) else { continue }
      throw DiTError(
        file: file, .key(name), expected: "\(known[0]), as no other process of its code is here", found: value)
    }
  }
}
