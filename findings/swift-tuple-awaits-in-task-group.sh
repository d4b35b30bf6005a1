#!/usr/bin/env bash
# Swift 6.3.1 on Linux x86-64, release mode: a child task of a task group that returns a pair of a number and of what it awaits, inside do and
# catch, returns another number. The number is taken before the wait and should be the loop's; what arrives is 0, or whatever the memory
# held. A debug build is right, and so is a release build in which the wait stands on a line of its own before the pair. Nothing warns.
# A program that serves requests from one model (requests in a group, each answered with its number) is of just that form.
# Seen: release (0, 0, 0, 0), debug (0, 1, 2, 3), the wait on a line of its own (0, 1, 2, 3). Needs swift 6.3.1 itself, no packages.
set -euo pipefail

version=$(swift --version 2>/dev/null | grep -o 'Swift version [0-9.]*' | head -n 1)
echo "$version"
[ "$version" = "Swift version 6.3.1" ] || {
  echo "this is of Swift 6.3.1" >&2
  exit 1
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/Sources/pairs"
cat >"$folder/Package.swift" <<'SWIFT'
// swift-tools-version: 6.2
import PackageDescription

let package = Package(name: "pairs", targets: [.executableTarget(name: "pairs")])
SWIFT
cat >"$folder/Sources/pairs/main.swift" <<'SWIFT'
@Sendable func answer(_ number: Int) async throws -> String {
  try await Task.sleep(for: .milliseconds(1))
  return "answer \(number)"
}

let inOne = await withTaskGroup(of: (Int, String).self) { group in
  for number in 0..<4 {
    group.addTask {
      do { return (number, try await answer(number)) } catch { return (number, "") }
    }
  }
  var found: [(Int, String)] = []
  for await pair in group { found.append(pair) }
  return found.sorted { $0.1 < $1.1 }.map(\.0)
}
let apart = await withTaskGroup(of: (Int, String).self) { group in
  for number in 0..<4 {
    group.addTask {
      do {
        let text = try await answer(number)
        return (number, text)
      } catch { return (number, "") }
    }
  }
  var found: [(Int, String)] = []
  for await pair in group { found.append(pair) }
  return found.sorted { $0.1 < $1.1 }.map(\.0)
}
print(inOne, apart)
SWIFT
swift build --package-path "$folder" -c release >&2
swift build --package-path "$folder" -c debug >&2
release=$("$folder/.build/release/pairs")
debug=$("$folder/.build/debug/pairs")
echo "release: $release"
echo "debug:   $debug"
[ "$debug" = "[0, 1, 2, 3] [0, 1, 2, 3]" ]
[ "${release#*] }" = "[0, 1, 2, 3]" ]
[ "${release%% \[0, 1, 2, 3\]}" != "[0, 1, 2, 3]" ]
