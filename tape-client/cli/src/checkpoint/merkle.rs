//! The Merkle tree of RFC 6962, section 2.1, over hashes of leaves.

use tape_client::core::payload::Digest;

/// The hash of a leaf.
pub(crate) fn leaf(bytes: &[u8]) -> Digest {
    Digest::of(&[&[0], bytes].concat())
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of(&[&[1], &left.0[..], &right.0[..]].concat())
}

/// How many leaves the left part of a tree has: the largest power of two below their number.
const fn left_part(leaves: usize) -> usize {
    assert!(leaves > 1, "a tree of one leaf has no parts");
    1 << (leaves - 1).ilog2()
}

/// The root of the tree.
pub(crate) fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(left_part(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The proof that the leaf at an index, counted from 0, is in the tree: the hashes beside its path, from the leaf up.
///
/// # Panics
/// Where there is no such leaf.
pub(crate) fn inclusion(index: usize, leaves: &[Digest]) -> Vec<Digest> {
    assert!(index < leaves.len(), "the leaf is in the tree");
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(left_part(leaves.len()));
    let (mut proof, beside) = match index.checked_sub(left.len()) {
        None => (inclusion(index, left), root(right)),
        Some(index) => (inclusion(index, right), root(left)),
    };
    proof.push(beside);
    proof
}

/// The proof that the tree of the first `old` leaves is a beginning of this tree. It is empty where `old` is 0 or all leaves.
///
/// # Panics
/// Where there are fewer leaves than `old`.
pub(crate) fn consistency(old: usize, leaves: &[Digest]) -> Vec<Digest> {
    assert!(old <= leaves.len(), "the older tree is not larger");
    if old == 0 {
        return Vec::new();
    }
    below(old, leaves, true)
}

/// `known` says whether the reader has the root of these first `old` leaves.
fn below(old: usize, leaves: &[Digest], known: bool) -> Vec<Digest> {
    if old == leaves.len() {
        return if known { Vec::new() } else { vec![root(leaves)] };
    }
    let (left, right) = leaves.split_at(left_part(leaves.len()));
    let (mut proof, beside) = match old.checked_sub(left.len()) {
        None | Some(0) => (below(old, left, known), root(right)),
        Some(old) => (below(old, right, false), root(left)),
    };
    proof.push(beside);
    proof
}

#[cfg(test)]
mod tests {
    use super::{consistency, inclusion, leaf, node, root};
    use tape_client::core::payload::Digest;

    /// The leaves that implementations of RFC 6962 test with, and the roots of the first of them.
    const VECTORS: [(&[u8], &str); 8] = [
        (
            b"",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        ),
        (
            b"\x00",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        ),
        (
            b"\x10",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        ),
        (
            b"\x20\x21",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ),
        (
            b"\x30\x31",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        ),
        (
            b"\x40\x41\x42\x43",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        ),
        (
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        ),
        (
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ),
    ];

    fn vectors() -> Vec<Digest> {
        VECTORS.iter().map(|(bytes, _)| leaf(bytes)).collect()
    }

    /// Leaves of a tree of any size.
    fn leaves(n: usize) -> Vec<Digest> {
        (0..n).map(|i| leaf(i.to_string().as_bytes())).collect()
    }

    #[test]
    fn roots_are_those_of_other_implementations() {
        let leaves = vectors();
        for (n, (_, expected)) in (1..).zip(VECTORS) {
            assert_eq!(root(&leaves[..n]).to_string(), expected, "{n} leaves");
        }
        let none = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(root(&[]).to_string(), none);
    }

    /// RFC 6962, section 2.1.3, shows the tree of seven leaves and these proofs.
    #[test]
    fn proofs_are_those_of_the_examples() {
        let d = &leaves(7)[..];
        let (g, h, i, j) = (node(&d[0], &d[1]), node(&d[2], &d[3]), node(&d[4], &d[5]), d[6]);
        let (k, l) = (node(&g, &h), node(&i, &j));
        assert_eq!(inclusion(0, d), [d[1], h, l]);
        assert_eq!(inclusion(3, d), [d[2], g, l]);
        assert_eq!(inclusion(4, d), [d[5], j, k]);
        assert_eq!(inclusion(6, d), [i, k]);
        assert_eq!(consistency(3, d), [d[2], d[3], g, l]);
        assert_eq!(consistency(4, d), [l]);
        assert_eq!(consistency(6, d), [i, j, k]);
    }

    /// RFC 9162, section 2.1.3.2: written from there, so that it shares nothing with what makes the proofs.
    fn includes(leaf: Digest, index: usize, size: usize, proof: &[Digest], expected: Digest) -> bool {
        if index >= size {
            return false;
        }
        let (mut fnode, mut snode, mut hash) = (index, size - 1, leaf);
        for beside in proof {
            if snode == 0 {
                return false;
            }
            if fnode % 2 == 1 || fnode == snode {
                hash = node(beside, &hash);
                while fnode % 2 == 0 && fnode != 0 {
                    (fnode, snode) = (fnode / 2, snode / 2);
                }
            } else {
                hash = node(&hash, beside);
            }
            (fnode, snode) = (fnode / 2, snode / 2);
        }
        snode == 0 && hash == expected
    }

    /// RFC 9162, section 2.1.4.2.
    fn extends(old: usize, old_root: Digest, size: usize, size_root: Digest, proof: &[Digest]) -> bool {
        if old == 0 || old == size {
            return proof.is_empty() && (old == 0 || old_root == size_root);
        }
        let mut path = proof.to_vec();
        if old.is_power_of_two() {
            path.insert(0, old_root);
        }
        let (mut fnode, mut snode) = (old - 1, size - 1);
        while fnode % 2 == 1 {
            (fnode, snode) = (fnode / 2, snode / 2);
        }
        let Some((first, rest)) = path.split_first() else {
            return false;
        };
        let (mut older, mut newer) = (*first, *first);
        for beside in rest {
            if snode == 0 {
                return false;
            }
            if fnode % 2 == 1 || fnode == snode {
                (older, newer) = (node(beside, &older), node(beside, &newer));
                while fnode % 2 == 0 && fnode != 0 {
                    (fnode, snode) = (fnode / 2, snode / 2);
                }
            } else {
                newer = node(&newer, beside);
            }
            (fnode, snode) = (fnode / 2, snode / 2);
        }
        snode == 0 && older == old_root && newer == size_root
    }

    /// Every proof that differs in one bit, or by one hash.
    fn changed(proof: &[Digest]) -> Vec<Vec<Digest>> {
        let flipped = |bit: usize| {
            let mut other = proof.to_vec();
            other[bit / 256].0[bit % 256 / 8] ^= 1 << (bit % 8);
            other
        };
        let mut all: Vec<Vec<Digest>> = (0..proof.len() * 256).map(flipped).collect();
        all.push([proof, &[Digest::default()]].concat());
        if let Some((_, rest)) = proof.split_first() {
            all.push(rest.to_vec());
        }
        all
    }

    #[test]
    fn every_inclusion_is_proved_and_none_by_another_proof() {
        for size in 1..=33 {
            let leaves = leaves(size);
            let root = root(&leaves);
            for index in 0..size {
                let proof = inclusion(index, &leaves);
                assert!(
                    includes(leaves[index], index, size, &proof, root),
                    "{index} of {size}"
                );
                for other in 0..size {
                    assert!(
                        other == index || !includes(leaves[index], other, size, &proof, root),
                        "{index} stands at {other} of {size}"
                    );
                }
                if size <= 9 {
                    for other in changed(&proof) {
                        assert!(!includes(leaves[index], index, size, &other, root));
                    }
                }
            }
        }
    }

    #[test]
    fn every_consistency_is_proved_and_none_by_another_proof() {
        for size in 1..=33 {
            let leaves = leaves(size);
            let now = root(&leaves);
            for old in 0..=size {
                let before = root(&leaves[..old]);
                let proof = consistency(old, &leaves);
                assert!(extends(old, before, size, now, &proof), "{old} of {size}");
                if old > 0 && old < size {
                    let otherwise = root(&[&leaves[1..old], &[leaf(b"other")]].concat());
                    assert!(!extends(old, otherwise, size, now, &proof), "{old} of {size}");
                    assert!(!extends(old, before, size, otherwise, &proof));
                }
                if size <= 9 {
                    for other in changed(&proof) {
                        assert!(!extends(old, before, size, now, &other));
                    }
                }
            }
        }
    }
}
