// When a row of x Wᵀ does not depend, bit for bit, on how many other rows there are.
//
// OpenBLAS 0.3.21's AVX-512 kernels (SkylakeX, Cooperlake) compute C = A Bᵀ by dot products where
// m·n ≤ 1200, k ≥ 32 and m·n·k ≤ 10⁶, and otherwise sum over k in order. Both are right; they differ in the last bits.
// Its AVX2 kernels also treat the last rows apart when their number is not a multiple of 4: there, only nearly equal.

extension ComputeContext {
  /// The number of rows from which on a linear layer gives each row the same bits, however many rows there are.
  public static func independentRows(inputs: Int, outputs: Int) -> Int {
    let tile = Tiling.forProduct(rows: 1, columns: outputs).tileColumns
    let last = outputs - (ceilDivide(outputs, tile) - 1) * tile
    // Few rows are dot products of our own.
    let least = fewRows + 1
    guard inputs >= 32 else { return least }
    let rows = min(1200 / last, 1_000_000 / (last * inputs)) + 1
    // Row tiles are at most 512 high: beyond that it is never, or always, the dot products.
    return rows <= 512 ? max(rows, least) : least
  }
}
