import ArgumentParser
import DiTDistributed
import DiTEngine

/// `--shard`.
struct ShardOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Make every n-th image alone, from number i on (i from 0 to n−1), for a job array; each is what it is in the whole run. \
      (default: all)
      """, valueName: "i/n"),
    transform: { text in
      guard let share = ImageShare(text) else {
        throw DiTError(option: "shard", expected: ImageShare.expectation, found: text)
      }
      return share
    })
  var shard: ImageShare?

  /// The share of one process: what `--shard` says, or its own among several.
  func share(of group: any Communicator) -> ImageShare {
    shard ?? ImageShare(index: group.rank, of: group.size)
  }
}
