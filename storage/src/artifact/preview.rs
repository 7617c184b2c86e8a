//! How an artifact can be shown to people.

/// How an artifact can be shown to people, who must not be harmed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preview {
    /// Not at all: it can be downloaded.
    #[default]
    None,
    /// As text.
    Text,
    /// As an image.
    Image,
    /// As a page, in a frame that may do nothing.
    Html,
    /// As a PDF.
    Pdf,
    /// As a video.
    Video,
    /// As a sound.
    Audio,
    /// As results of test cases.
    Report,
}

impl Preview {
    /// What a media type alone tells.
    #[must_use]
    pub fn of_type(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.split_once('/') {
            Some(("text", "html")) => Self::Html,
            Some(("text", _))
            | Some(("application", "json" | "xml" | "yaml" | "toml" | "x-ndjson")) => Self::Text,
            Some(("application", "pdf")) => Self::Pdf,
            Some(("image", _)) => Self::Image,
            Some(("video", _)) => Self::Video,
            Some(("audio", _)) => Self::Audio,
            _ => Self::None,
        }
    }

    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Text => "text",
            Self::Image => "image",
            Self::Html => "html",
            Self::Pdf => "pdf",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Report => "report",
        }
    }

    pub(super) fn of_code(code: &str) -> Option<Self> {
        let all = [
            Self::None,
            Self::Text,
            Self::Image,
            Self::Html,
            Self::Pdf,
            Self::Video,
            Self::Audio,
            Self::Report,
        ];
        all.into_iter().find(|preview| preview.code() == code)
    }
}
