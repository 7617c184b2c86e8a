//! Requests and limits of a pod whose containers work one after the other.
//!
//! The pod must not ask for the sum: of each resource the largest request goes to one container,
//! the others ask explicitly for nothing. Limits stay with their containers.

use std::{cmp::Ordering, collections::BTreeMap};

use muster_spec::plan::Resources;

/// Resources that containers can take turns with. Others, devices for example, must have equal
/// request and limit, so they stay as they are.
const SHARED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// The resources of each container, in order.
///
/// # Errors
///
/// The first quantity that is none.
pub(super) fn share(containers: &[&Resources]) -> Result<Vec<Resources>, String> {
    let mut shared: Vec<Resources> = containers.iter().map(|&r| r.clone()).collect();
    for name in SHARED {
        let mut largest: Option<(usize, f64, String)> = None;
        for (index, resources) in containers.iter().enumerate() {
            check(resources.limits.get(name), name)?;
            check(resources.requests.get(name), name)?;
            // Kubernetes takes a limit for the request where only a limit is given.
            let Some(text) = resources
                .requests
                .get(name)
                .or_else(|| resources.limits.get(name))
            else {
                continue;
            };
            let size = quantity(text).unwrap_or(0.0);
            let more = largest
                .as_ref()
                .is_none_or(|(_, most, _)| size.total_cmp(most) == Ordering::Greater);
            if more {
                largest = Some((index, size, text.clone()));
            }
        }
        let Some((holder, _, text)) = largest else {
            continue;
        };
        for (index, resources) in shared.iter_mut().enumerate() {
            let request = if index == holder {
                text.clone()
            } else {
                "0".to_owned()
            };
            resources.requests.insert(name.to_owned(), request);
        }
    }
    Ok(shared)
}

fn check(text: Option<&String>, name: &str) -> Result<(), String> {
    match text {
        Some(text) if quantity(text).is_none() => Err(format!(
            "resources: '{text}' is not a quantity of {name}, such as '500m', '1' or '256Mi'"
        )),
        _ => Ok(()),
    }
}

/// The value of a Kubernetes quantity.
fn quantity(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok().filter(|n: &f64| *n >= 0.0)?;
    let factors = BTreeMap::from([
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("", 1.0),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
    ]);
    if let Some(factor) = factors.get(suffix) {
        return Some(number * factor);
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some(number * 10f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Resources {
        let map = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
            owned.collect()
        };
        Resources {
            requests: map(requests),
            limits: map(limits),
        }
    }

    #[test]
    fn the_largest_request_goes_to_one_container_and_nothing_to_the_rest() {
        let small = resources(&[("cpu", "500m"), ("memory", "1Gi")], &[]);
        let big = resources(&[("cpu", "1"), ("memory", "900Mi")], &[]);
        let none = Resources::default();
        let shared = share(&[&small, &big, &none]).expect("all are quantities");
        let requests: Vec<_> = shared
            .iter()
            .map(|r| (r.requests["cpu"].as_str(), r.requests["memory"].as_str()))
            .collect();
        assert_eq!(requests, [("0", "1Gi"), ("1", "0"), ("0", "0")]);
    }

    #[test]
    fn a_limit_alone_counts_as_a_request() {
        let limited = resources(&[], &[("memory", "64Mi")]);
        let none = Resources::default();
        let shared = share(&[&none, &limited]).expect("all are quantities");
        assert_eq!(shared[0].requests["memory"], "0");
        assert_eq!(shared[1].requests["memory"], "64Mi");
        assert_eq!(shared[1].limits["memory"], "64Mi");
    }

    #[test]
    fn devices_stay_where_they_are() {
        let device = resources(&[], &[("example.com/gpu", "1")]);
        let shared = share(&[&device, &Resources::default()]).expect("all are quantities");
        assert!(shared[0].requests.is_empty() && shared[1].requests.is_empty());
    }

    #[test]
    fn a_quantity_that_is_none_is_named() {
        let wrong = resources(&[("memory", "lots")], &[]);
        let error = share(&[&wrong]).expect_err("it is no quantity");
        assert!(
            error.contains("'lots'") && error.contains("memory"),
            "{error}"
        );
    }

    #[test]
    fn quantities_have_their_value() {
        for (text, value) in [
            ("1", 1.0),
            ("250m", 0.25),
            ("1Ki", 1024.0),
            ("1e3", 1e3),
            ("2E", 2e18),
        ] {
            let read = quantity(text).expect(text);
            assert!((read - value).abs() < 1e-6 * value, "{text}: {read}");
        }
        for text in ["", "-1", "1 Gi", "Gi", "1KB"] {
            assert!(quantity(text).is_none(), "{text}");
        }
    }
}
