//! "Did you mean": the nearest of the allowed names.

/// Most candidates that are looked at.
const MOST: usize = 1000;

/// The candidate that is most like `name`, if any is near enough to be a likely slip.
///
/// ```
/// use muster_spec::suggest::nearest;
/// assert_eq!(nearest("imge", ["image", "env"]), Some("image"));
/// assert_eq!(nearest("ports", ["image", "env"]), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_lowercase();
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .take(MOST)
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= 4 * limit)
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean `x`?`, or the list of what is allowed when it is short, or nothing.
pub(crate) fn advice(name: &str, candidates: &[&str]) -> Option<String> {
    if let Some(found) = nearest(name, candidates.iter().copied()) {
        return Some(format!("did you mean `{found}`?"));
    }
    match candidates {
        [] => None,
        few if few.len() <= 12 => Some(format!("allowed: {}", few.join(", "))),
        _ => None,
    }
}

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().take(80).collect();
    let mut before: Vec<usize> = vec![];
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let replaced = above[j] + usize::from(a != b);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_one_key_are_recognised() {
        for (slip, meant) in [
            ("shel", "shell"),
            ("sehll", "shell"),
            ("Shell", "shell"),
            ("artefacts", "artifacts"),
            ("worknigDir", "workingDir"),
        ] {
            let fields = ["shell", "artifacts", "workingDir", "run"];
            assert_eq!(nearest(slip, fields), Some(meant), "{slip}");
        }
    }

    #[test]
    fn unlike_words_give_nothing() {
        assert_eq!(nearest("kubernetes", ["shell", "run"]), None);
        assert_eq!(nearest(&"x".repeat(10_000), ["shell"]), None);
    }
}
