import DiffusionTransformers

/// What a person should know although all went well. Printed last: stderr's first line is the error where there is one.
enum Warnings {
  ///
  /// - Parameter problem: what went wrong beside the work.
  static func write(_ problem: String? = nil) {
    for text in [problem, narrowed(.current)].compactMap(\.self) { StandardError.write("Warning: \(text)\n") }
  }

  /// What holds OpenBLAS back, if anything does.
  static func narrowed(_ report: BLASReport) -> String? {
    guard report.isNarrowed else { return nil }
    return """
      OpenBLAS runs its \(report.core) kernels, narrower than this CPU's \(InstructionSet.supported.rawValue); unset \
      OPENBLAS_CORETYPE if it is set
      """
  }
}
