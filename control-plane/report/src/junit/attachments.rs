//! Attachments that a test names in its output: `[[ATTACHMENT|path]]` in a line of its own, as Jenkins
//! has it and Playwright writes it.

/// Finds attachments in text that comes in pieces.
pub(super) struct Attachments {
    line: Vec<u8>,
    /// Bytes of a line that are looked at.
    most: usize,
    pub(super) found: Vec<String>,
    /// How many are kept here; the collector counts what is too much.
    count: usize,
}

const BEFORE: &[u8] = b"[[ATTACHMENT|";

impl Attachments {
    pub(super) fn new(path: usize, count: usize) -> Self {
        Self {
            line: Vec::new(),
            most: path.saturating_add(64),
            found: Vec::new(),
            count: count.saturating_add(1),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        if let Some(first) = parts.next() {
            self.add(first);
        }
        for part in parts {
            self.end();
            self.add(part);
        }
    }

    /// The last line ends, too.
    pub(super) fn end(&mut self) {
        let line = self.line.trim_ascii();
        if let Some(rest) = line.strip_prefix(BEFORE)
            && let Some(end) = rest.windows(2).position(|two| two == b"]]")
            && self.found.len() < self.count
        {
            let path = String::from_utf8_lossy(&rest[..end]).into_owned();
            self.found.push(path);
        }
        self.line.clear();
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = self.most.saturating_sub(self.line.len()).min(bytes.len());
        self.line.extend_from_slice(&bytes[..room]);
    }
}

#[cfg(test)]
mod tests {
    use super::Attachments;

    #[test]
    fn attachments_are_found_over_pieces_and_only_in_lines_of_their_own() {
        let mut attachments = Attachments::new(20, 2);
        for piece in [
            "a [[ATTACHMENT|no]]\n[[ATT",
            "ACHMENT|one.png]]\r\n",
            "[[ATTACHMENT|x",
        ] {
            attachments.push(piece.as_bytes());
        }
        attachments.push("x".repeat(100).as_bytes());
        attachments.push(b"]]\n[[ATTACHMENT|two]]\n[[ATTACHMENT|three]]\n[[ATTACHMENT|four]]");
        attachments.end();
        assert_eq!(attachments.found, ["one.png", "two", "three"]);
    }
}
