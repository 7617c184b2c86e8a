//! Configs by the digest of their manifest, the newest used ones.

use std::collections::VecDeque;

use muster_proto::runner::v1::ImageConfig;

/// Most configs; each is some hundred bytes.
const ROOM: usize = 256;

/// The newest used configs.
#[derive(Debug, Default)]
pub(super) struct Cache(VecDeque<(String, ImageConfig)>);

impl Cache {
    /// The config of a manifest; it becomes the newest.
    pub(super) fn get(&mut self, digest: &str) -> Option<ImageConfig> {
        let index = self.0.iter().position(|(known, _)| known == digest)?;
        let found = self.0.remove(index)?;
        let config = found.1.clone();
        self.0.push_back(found);
        Some(config)
    }

    /// Keeps a config; the one that was not used for longest goes.
    pub(super) fn put(&mut self, digest: String, config: ImageConfig) {
        if self.0.len() >= ROOM {
            self.0.pop_front();
        }
        self.0.push_back((digest, config));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut cache = Cache::default();
        cache.put("kept".to_owned(), ImageConfig::default());
        for index in 0..ROOM * 2 {
            assert!(cache.get("kept").is_some());
            cache.put(index.to_string(), ImageConfig::default());
        }
        assert!(cache.get("0").is_none());
        assert!(cache.0.len() <= ROOM);
    }
}
