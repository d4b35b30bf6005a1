import DiTDistributed
import DiTLinearAlgebra
import DiTTensor

extension Communicator {
  /// Whether item `index` of a list that is shared out is this rank's.
  func has(_ index: Int) -> Bool { index % size == rank }

  /// Every item of a list of `count` of which each rank makes some, as numbers.
  ///
  /// - Parameters:
  ///   - width: numbers of an item.
  ///   - item: makes item i; called for this rank's.
  func shared(_ count: Int, width: Int, item: (Int) throws -> [Double]) throws -> [[Double]] {
    var own: [Double] = []
    for index in 0..<count where has(index) { own += try item(index) }
    let each = (count + size - 1) / size
    own += [Double](repeating: 0, count: each * width - own.count)
    let all = try gather(own)
    return (0..<count).map { index in
      let start = index / size * width
      return Array(all[index % size][start..<start + width])
    }
  }

  /// The table of all pairs, from tables of which each has some of them.
  func merged(_ own: NeighborTable) throws(DiTError) -> NeighborTable {
    guard size > 1 else { return own }
    var numbers: [Double] = own.distances
    numbers += own.indices.map(Double.init)
    numbers += own.hits.map(Double.init)
    var table = own
    for (rank, all) in try gather(numbers).enumerated() where rank != self.rank {
      let (count, hits) = (own.distances.count, own.hits.count)
      table.merge(
        distances: all[..<count], indices: all[count..<2 * count].map { Int32($0) },
        hits: all[(2 * count)..<(2 * count + hits)].map { Int32($0) })
    }
    return table
  }
}
