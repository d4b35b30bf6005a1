import DiTDistributed
import DiTTensor

/// Sums over a set's samples, which are the same whatever ranks make them: the samples lie in at most eight parts, each added up
/// from its start, and the parts are added in one tree.
///
/// A part has at least eight blocks, so that sets of a few thousand samples are one, and no more than four sums are in memory.
struct PartialSums {
  private let tree: AlignedTree
  /// Blocks of the set.
  private let blocks: Int
  private let group: any Communicator

  private static let mostParts = 8
  private static let fewestBlocks = 8
  /// Numbers that a rank sends at a time: everyone gets everyone's.
  private var piece: Int { max(1 << 12, (1 << 20) / group.size) }

  init(_ set: SampleSet, _ group: any Communicator) {
    blocks = set.blockCount
    tree = AlignedTree(count: max(1, min(Self.mostParts, blocks / Self.fewestBlocks)))
    self.group = group
  }

  private func parts(of rank: Int) -> Range<Int> {
    rank * tree.count / group.size..<(rank + 1) * tree.count / group.size
  }

  /// Sums of `count` numbers, which every rank gets.
  ///
  /// - Parameter add: adds what blocks have.
  func callAsFunction(
    _ count: Int, add: (_ blocks: Range<Int>, _ sums: inout [Double]) throws(DiTError) -> Void
  ) throws(DiTError) -> [Double] {
    var own = TreeSum<Sums>(tree)
    for part in parts(of: group.rank) {
      let sums = Sums(count)
      try add(part * blocks / tree.count..<(part + 1) * blocks / tree.count, &sums.values)
      own.append(AlignedTree.Node(start: part, level: 0), sums) { left, right, _ in left.add(right) }
    }
    guard group.size > 1 else { return own.open[0].value.values }
    let nodes = (0..<group.size).map { tree.nodes(of: parts(of: $0)) }
    let rounds = nodes.map(\.count).max() ?? 0
    var total: [Double] = []
    total.reserveCapacity(count)
    for start in stride(from: 0, to: count, by: piece) {
      let range = start..<min(count, start + piece)
      var arrived: [[Sums]] = nodes.map { _ in [] }
      for round in 0..<rounds {
        let sent =
          round < own.open.count
          ? Array(own.open[round].value.values[range]) : [Double](repeating: 0, count: range.count)
        for (rank, numbers) in try group.gather(sent).enumerated() where round < nodes[rank].count {
          arrived[rank].append(Sums(numbers))
        }
      }
      var sum = TreeSum<Sums>(tree)
      for (node, sums) in zip(nodes.joined(), arrived.joined()) {
        sum.append(node, sums) { left, right, _ in left.add(right) }
      }
      total += sum.open[0].value.values
    }
    return total
  }

  private final class Sums {
    var values: [Double]

    init(_ count: Int) { values = [Double](repeating: 0, count: count) }
    init(_ values: [Double]) { self.values = values }

    func add(_ other: Sums) {
      for place in values.indices { values[place] += other.values[place] }
    }
  }
}
