import DiTDistributed
import Testing

/// The sum as it is written: brackets show which pairs are added.
private final class Term {
  var text: String
  init(_ text: String) { self.text = text }
}

@Suite("The order in which virtual ranks are added")
struct AlignedTreeTests {
  private func sum(_ tree: AlignedTree, _ parts: [[(AlignedTree.Node, Term)]]) -> String? {
    var sum = TreeSum<Term>(tree)
    for (node, term) in parts.joined() {
      sum.append(node, term) { left, right, _ in left.text = "(\(left.text)+\(right.text))" }
    }
    return sum.open.count == 1 ? sum.open[0].value.text : nil
  }

  /// What a rank that holds a range makes of it.
  private func held(_ tree: AlignedTree, _ range: Range<Int>) -> [(AlignedTree.Node, Term)] {
    var sum = TreeSum<Term>(tree)
    for place in range {
      sum.append(AlignedTree.Node(start: place, level: 0), Term("\(place)")) { left, right, _ in
        left.text = "(\(left.text)+\(right.text))"
      }
    }
    #expect(sum.open.map(\.node) == tree.nodes(of: range))
    return sum.open.map { ($0.node, $0.value) }
  }

  @Test("Trees of one to seven places are the documented ones")
  func shapes() {
    let expected = [
      1: "0", 2: "(0+1)", 3: "((0+1)+2)", 4: "((0+1)+(2+3))", 5: "(((0+1)+(2+3))+4)", 6: "(((0+1)+(2+3))+(4+5))",
      7: "(((0+1)+(2+3))+((4+5)+6))",
    ]
    for (count, text) in expected {
      let tree = AlignedTree(count: count)
      #expect(sum(tree, [held(tree, 0..<count)]) == text)
    }
  }

  @Test("Any number of ranks that divides the places adds the same pairs")
  func anyNumberOfRanks() {
    for count in 1...48 {
      let tree = AlignedTree(count: count)
      let whole = sum(tree, [held(tree, 0..<count)])
      for ranks in 1...count where count % ranks == 0 {
        let each = count / ranks
        let parts = (0..<ranks).map { held(tree, $0 * each..<($0 + 1) * each) }
        #expect(sum(tree, parts) == whole, "\(count) places on \(ranks) ranks")
        if count.nonzeroBitCount == 1 { #expect(parts.allSatisfy { $0.count == 1 }, "one sum a rank") }
        #expect(parts.allSatisfy { $0.count <= 2 * max(1, each.bitWidth - each.leadingZeroBitCount) })
      }
    }
  }
}
