//! Figures of one benchmark: a table for people, and one JSON document for programs.

/// Rows of the table, and the same for programs.
#[derive(Default)]
pub(crate) struct Figures {
    rows: Vec<(String, String)>,
    document: serde_json::Map<String, serde_json::Value>,
}

impl Figures {
    /// Adds a figure: its name in the document, and what the table calls it.
    pub(crate) fn add(&mut self, key: &str, text: &str, value: f64, digits: usize) {
        self.rows
            .push((text.to_owned(), format!("{value:.digits$}")));
        self.document.insert(key.to_owned(), value.into());
    }

    /// Prints all of them below a title.
    #[expect(clippy::print_stdout, reason = "the purpose of this program")]
    pub(crate) fn print(&self, title: &str) {
        println!("| {title} | |");
        println!("| --- | ---: |");
        for (text, value) in &self.rows {
            println!("| {text} | {value} |");
        }
        println!();
        println!("{}", serde_json::Value::Object(self.document.clone()));
    }
}
