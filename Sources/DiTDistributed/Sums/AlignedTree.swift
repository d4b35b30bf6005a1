/// The order in which V partial sums are added: one binary tree, whatever ranks hold them.
///
/// A node of level k covers the 2ᵏ places from a multiple of 2ᵏ on, as far as there are any; it is the sum of its halves, or its
/// left half where there is no right one. A rank that holds a range of places adds up the largest nodes that lie in it; whoever has
/// all of those adds up the rest. So every rank count adds the same pairs.
///
/// For instance six places: ((0 + 1) + (2 + 3)) + (4 + 5). Ranks of two hold 0 + 1, 2 + 3 and 4 + 5; ranks of three hold 0 + 1 and 2,
/// 3 and 4 + 5.
package struct AlignedTree: Equatable, Sendable {
  /// V.
  package let count: Int

  package init(count: Int) {
    precondition(count > 0, "a tree of no places")
    self.count = count
  }

  /// A node by what it covers.
  package struct Node: Equatable, Sendable {
    package let start: Int
    package let level: Int

    package init(start: Int, level: Int) { (self.start, self.level) = (start, level) }
  }

  /// The places that a node covers.
  package func places(_ node: Node) -> Range<Int> { node.start..<min(node.start + (1 << node.level), count) }

  /// The node of the next level that is this one, because where its right half would be there are no places.
  private func grown(_ node: Node) -> Node? {
    let level = node.level + 1
    guard node.start % (1 << level) == 0, node.start + (1 << node.level) >= count else { return nil }
    return Node(start: node.start, level: level)
  }

  /// The larger of two neighbors that are the halves of one node; nil where they are not. A right half may be smaller where places
  /// end.
  package func joined(_ left: Node, _ right: Node) -> Node? {
    var right = right
    while right.level < left.level, let next = grown(right) { right = next }
    let size = 1 << left.level
    guard left.level == right.level, left.start + size == right.start, left.start % (2 * size) == 0 else { return nil }
    return Node(start: left.start, level: left.level + 1)
  }

  /// The largest nodes that lie in a range, from left to right.
  package func nodes(of range: Range<Int>) -> [Node] {
    var nodes: [Node] = []
    for place in range {
      var node = Node(start: place, level: 0)
      while let last = nodes.last, let parent = joined(last, node) {
        nodes.removeLast()
        node = parent
      }
      nodes.append(node)
    }
    return nodes
  }
}

/// Adds up what belongs to the nodes of a tree as they come from left to right, in the tree's order.
///
/// `Value` is a buffer, or what stands for one: `add` adds the right one to the left one.
package struct TreeSum<Value> {
  private let tree: AlignedTree
  /// What cannot be joined yet, from left to right.
  package private(set) var open: [(node: AlignedTree.Node, value: Value)] = []

  package init(_ tree: AlignedTree) { self.tree = tree }

  /// Takes the next node.
  ///
  /// - Parameter add: adds the second to the first, which is then that of the node that covers both.
  package mutating func append(
    _ node: AlignedTree.Node, _ value: Value, add: (_ left: Value, _ right: Value, _ parent: AlignedTree.Node) -> Void
  ) {
    var (node, value) = (node, value)
    while let last = open.last, let parent = tree.joined(last.node, node) {
      add(last.value, value, parent)
      open.removeLast()
      (node, value) = (parent, last.value)
    }
    open.append((node, value))
  }
}
