//! Keys of labels and annotations. Most mean something to people alone; some are settings of the
//! cluster by another way, and so are judged as the fields that they stand for.

use super::Check;

/// Keys that are the agent's own, by prefix.
const OWN: [&str; 3] = [
    "muster.dev/",
    "app.kubernetes.io/managed-by",
    "batch.kubernetes.io/",
];
/// Domains whose keys change what a pod may do: profiles of the kernel, networks of the node,
/// roles of the cloud.
const POWERFUL: [&str; 4] = ["kubernetes.io", "k8s.io", "cncf.io", "iam.amazonaws.com"];
/// Prefix of the same kind without a domain, for CRI-O.
const POWERFUL_PREFIX: &str = "io.kubernetes.";
/// Keys of those domains that give no power, by prefix.
const HARMLESS: [&str; 2] = [
    "app.kubernetes.io/",
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
];

impl Check<'_> {
    /// Checks the keys of labels or annotations at `path`.
    pub(super) fn keys<'k>(&mut self, path: &str, keys: impl Iterator<Item = &'k String>) {
        for key in keys {
            let path = format!("{path}.{key}");
            if OWN.iter().any(|own| key.starts_with(own)) {
                self.refuse(&path, "it is set by Muster; choose another key");
            } else if is_powerful(key) {
                self.privileged(&path, "a key on which the cluster acts");
            }
        }
    }
}

fn is_powerful(key: &str) -> bool {
    if HARMLESS.iter().any(|harmless| key.starts_with(harmless)) {
        return false;
    }
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let is_powerful_domain = POWERFUL.iter().any(|powerful| {
        let above = domain.strip_suffix(powerful);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    });
    is_powerful_domain || key.starts_with(POWERFUL_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::is_powerful;

    #[test]
    fn keys_that_stand_for_fields_are_powerful_and_names_are_not() {
        for powerful in [
            "container.apparmor.security.beta.kubernetes.io/step-1",
            "seccomp.security.alpha.kubernetes.io/pod",
            "k8s.v1.cni.cncf.io/networks",
            "iam.amazonaws.com/role",
            "io.kubernetes.cri-o.userns-mode",
            "kubernetes.io/x",
        ] {
            assert!(is_powerful(powerful), "{powerful}");
        }
        for plain in [
            "team",
            "app.kubernetes.io/name",
            "cluster-autoscaler.kubernetes.io/safe-to-evict",
            "sidecar.istio.io/inject",
            "example.com/kubernetes.io",
            "notkubernetes.io/x",
        ] {
            assert!(!is_powerful(plain), "{plain}");
        }
    }
}
