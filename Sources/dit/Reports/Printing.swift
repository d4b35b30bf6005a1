import DiffusionTransformers

/// Writes to stdout; names of files that are no UTF-8 are shown as `\xe9`.
func print(_ text: String, terminator: String = "\n") {
  Swift.print(FileName.shown(text), terminator: terminator)
}
