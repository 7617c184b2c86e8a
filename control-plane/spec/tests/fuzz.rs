//! The check of the fuzz target on a stable compiler: its corpus, the corpus with parts cut out and
//! put together, and random bytes.

#[path = "../fuzz/check.rs"]
#[expect(clippy::panic, reason = "a check fails by a panic")]
mod check;

use std::{fs, path::Path};

use proptest::prelude::*;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/expression");
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| fs::read(file.path()).ok())
        .collect()
}

#[test]
fn the_corpus_holds() {
    let corpus = corpus();
    assert!(corpus.len() >= 10, "{}", corpus.len());
    for text in &corpus {
        check::check(text);
        for end in 0..text.len() {
            check::check(&text[..end]);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_hold(data in prop::collection::vec(any::<u8>(), 0..60)) {
        check::check(&data);
    }

    #[test]
    fn parts_of_the_corpus_hold_together(parts in prop::collection::vec((any::<prop::sample::Index>(), 0..40usize, 1..20usize), 1..5)) {
        let corpus = corpus();
        let parts = parts.iter().flat_map(|(file, from, length)| {
            file.get(&corpus).iter().skip(*from).take(*length)
        });
        let text: Vec<u8> = parts.copied().collect();
        check::check(&text);
    }
}
