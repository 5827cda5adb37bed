//! The life of a client's token over the last hour, as a line that falls and jumps back.

use maud::{Markup, html};
use std::fmt::Write;

/// Width of a minute and height of a full life, in units of the picture.
const MINUTE: usize = 4;
const HEIGHT: f64 = 30.0;

/// Renders the line. It is left out until there are two points.
pub(super) fn render(points: &[Option<f64>]) -> Markup {
    if points.len() < 2 {
        return Markup::default();
    }
    let width = (points.len() - 1) * MINUTE;
    let without = points.iter().filter(|point| point.is_none()).count();
    let label = match without {
        0 => format!("Life left of the token in the last {} minutes", points.len()),
        _ => format!(
            "Life left of the token in the last {} minutes; there was none at {without} of them",
            points.len()
        ),
    };
    html! {
        svg.life viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
            path d=(path(points)) {}
        }
    }
}

/// The line as a path. It is interrupted where there was no token.
fn path(points: &[Option<f64>]) -> String {
    let mut path = String::new();
    let mut is_drawing = false;
    for (index, point) in points.iter().enumerate() {
        let Some(left) = point else {
            is_drawing = false;
            continue;
        };
        let command = if is_drawing { 'L' } else { 'M' };
        // Writing to a String cannot fail.
        let _ = write!(path, "{command}{} {:.1}", index * MINUTE, HEIGHT * (1.0 - left));
        is_drawing = true;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_interrupted_without_a_token() {
        assert_eq!(path(&[Some(1.0), Some(0.5), None, Some(1.0)]), "M0 0.0L4 15.0M12 0.0");
        assert_eq!(render(&[Some(1.0)]).into_string(), "");
    }
}
