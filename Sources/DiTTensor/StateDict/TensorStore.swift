/// Named tensors of real numbers, wherever they are stored: one file, or several that belong together.
public protocol TensorStore: Sendable {
  /// What errors name.
  var path: String { get }
  /// Every tensor's name and shape, in the order in which they are stored.
  var keys: [StateDict.Key] { get }
  /// The shape of the tensor `name`; nil when there is none of that name.
  func shape(of name: String) -> [Int]?
  /// The elements of the tensor `name` in row-major order: where they lie as aligned Floats in a mapped file they are not
  /// copied, else widened into new memory.
  ///
  /// - Throws: an error that names the file and the tensor, when there is none or its elements are no real numbers.
  func slice(_ name: String) throws -> FloatSlice
  /// The same where they lie, or to be made when they are asked for.
  func parts(_ name: String) throws -> TensorParts
}

extension TensorStore {
  public func parts(_ name: String) throws -> TensorParts { TensorParts(try slice(name)) }
}
