//! Splitting values so that all parts take about as long: the longest first, each for the part that has
//! the least so far. No part takes more than 4/3 of what the longest one of the best split takes. Where
//! the times come from is not known here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Gives each value, of which only the time in milliseconds is known, to one of the parts, whose
/// times so far are `loads`. Returns the places of the values of each part, in their order.
///
/// Of values of one time the first comes first; of parts with one time the one with fewer values,
/// and then the first. So the same is always split alike, and no part is empty as long as there are
/// as many values as parts.
pub(super) fn split(weights: &[u64], loads: &mut [u64]) -> Vec<Vec<usize>> {
    let mut parts = vec![Vec::new(); loads.len()];
    let mut least: BinaryHeap<Reverse<(u64, usize, usize)>> = loads
        .iter()
        .enumerate()
        .map(|(part, load)| Reverse((*load, 0, part)))
        .collect();
    let mut places: Vec<usize> = (0..weights.len()).collect();
    let weight = |place: usize| weights.get(place).copied().unwrap_or_default();
    places.sort_by_key(|place| Reverse(weight(*place)));
    for place in places {
        let Some(Reverse((load, count, part))) = least.pop() else {
            break;
        };
        let load = load.saturating_add(weight(place));
        if let (Some(values), Some(known)) = (parts.get_mut(part), loads.get_mut(part)) {
            values.push(place);
            *known = load;
        }
        least.push(Reverse((load, count + 1, part)));
    }
    for values in &mut parts {
        values.sort_unstable();
    }
    parts
}

/// A time for people, no more exact than it can be: `850ms`, `12.3s`, `2m10s`, `1h05m`.
#[must_use]
pub fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{}.{}s", seconds, time.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loads_of(weights: &[u64], parts: &[Vec<usize>]) -> Vec<u64> {
        let load = |part: &Vec<usize>| part.iter().map(|place| weights[*place]).sum();
        parts.iter().map(load).collect()
    }

    /// The longest part of the best split, found by trying all.
    fn best(weights: &[u64], loads: &mut Vec<u64>) -> u64 {
        let Some((first, rest)) = weights.split_first() else {
            return loads.iter().max().copied().unwrap_or_default();
        };
        let mut best_of_all = u64::MAX;
        for part in 0..loads.len() {
            loads[part] += first;
            best_of_all = best_of_all.min(best(rest, loads));
            loads[part] -= first;
        }
        best_of_all
    }

    #[test]
    fn the_longest_goes_first_and_the_order_within_a_part_stays() {
        let mut loads = vec![0; 2];
        assert_eq!(
            split(&[10, 40, 20, 10], &mut loads),
            [vec![1], vec![0, 2, 3]]
        );
        assert_eq!(loads, [40, 40]);
    }

    #[test]
    fn equal_values_are_dealt_in_their_order() {
        let mut loads = vec![0; 3];
        assert_eq!(
            split(&[5; 7], &mut loads),
            [vec![0, 3, 6], vec![1, 4], vec![2, 5]]
        );
    }

    #[test]
    fn a_second_list_goes_where_the_first_has_left_room() {
        let mut loads = vec![0; 2];
        assert_eq!(split(&[90, 10], &mut loads), [vec![0], vec![1]]);
        assert_eq!(split(&[30, 30, 30], &mut loads), [vec![], vec![0, 1, 2]]);
        assert_eq!(loads, [90, 100]);
    }

    #[test]
    fn times_are_told_as_exactly_as_they_are_of_use() {
        let told = |millis| about(Duration::from_millis(millis));
        assert_eq!(
            [0, 850, 12_345, 130_900, 3_900_000].map(told),
            ["0ms", "850ms", "12.3s", "2m10s", "1h05m"]
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_comes_twice(
            weights in prop::collection::vec(0_u64..1_000_000, 0..200),
            count in 1_usize..20,
        ) {
            let mut loads = vec![0; count];
            let parts = split(&weights, &mut loads);
            let mut all = parts.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..weights.len()).collect::<Vec<_>>());
            prop_assert_eq!(&loads, &loads_of(&weights, &parts));
            prop_assert!(parts.iter().all(|part| part.is_sorted()));
            let empty = parts.iter().filter(|part| part.is_empty()).count();
            prop_assert_eq!(empty, count.saturating_sub(weights.len()));
        }

        #[test]
        fn the_same_is_split_alike(
            weights in prop::collection::vec(0_u64..5, 0..50),
            count in 1_usize..8,
        ) {
            let once = split(&weights, &mut vec![0; count]);
            prop_assert_eq!(once, split(&weights, &mut vec![0; count]));
        }

        #[test]
        fn no_part_takes_more_than_four_thirds_of_the_best(
            weights in prop::collection::vec(0_u64..100, 0..9),
            count in 1_usize..4,
        ) {
            let mut loads = vec![0; count];
            split(&weights, &mut loads);
            let longest = loads.into_iter().max().unwrap_or_default();
            // 4/3 - 1/(3 m), without fractions.
            let best = best(&weights, &mut vec![0; count]);
            let count = count as u64;
            prop_assert!(longest * 3 * count <= best * (4 * count - 1), "{longest} of {best}");
        }

        #[test]
        fn no_two_parts_differ_by_more_than_the_longest_value(
            weights in prop::collection::vec(0_u64..1_000, 1..100),
            count in 1_usize..10,
        ) {
            let mut loads = vec![0; count];
            split(&weights, &mut loads);
            let (least, most) = (loads.iter().min(), loads.iter().max());
            let longest = weights.iter().max().copied().unwrap_or_default();
            prop_assert!(most.expect("one") - least.expect("one") <= longest);
        }
    }
}
