//! The length of sentences in events.

/// Characters of a sentence that volboot made, such as a reason. Parts of it may come from records or from Cinder.
pub(super) const MAX_SENTENCE: usize = 1024;

/// Cuts a sentence that volboot made.
pub(super) fn cut_sentence(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(MAX_SENTENCE) {
        text.truncate(end);
        text.push('…');
    }
}
