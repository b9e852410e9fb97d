//! How much a text in YAML may make of itself. A few lines of anchors and aliases unfold into gigabytes, and a few
//! thousand brackets into a stack that is used up; the parser has no bounds of its own. Pure.

use std::collections::HashMap;

use yaml_rust2::{Event, parser::Parser};

/// A host takes two lines of the file; nobody has thousands of hosts.
const TEXT_MAX: usize = 1 << 20;
/// Values that the text unfolds into.
const VALUES_MAX: usize = 50_000;
/// Ours needs four.
const DEPTH_MAX: usize = 32;

/// What a value amounts to with all that is in it.
#[derive(Clone, Copy)]
struct Size {
    values: usize,
    depth: usize,
}

/// A list or section that has begun.
struct Open {
    anchor: usize,
    size: Size,
}

/// Says what is too much, if anything is. A text that is no YAML is not judged here.
pub(super) fn excess(text: &str) -> Option<String> {
    if text.len() > TEXT_MAX {
        return Some(format!("it is longer than {TEXT_MAX} bytes"));
    }
    let mut parser = Parser::new_from_str(text);
    let mut anchored: HashMap<usize, Size> = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    let one = Size { values: 1, depth: 1 };
    loop {
        let (event, _) = parser.next_token().ok()?;
        let whole = match event {
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => continue,
            Event::StreamEnd => return None,
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                open.push(Open { anchor, size: one });
                if open.len() > DEPTH_MAX {
                    return Some(format!("it is nested more than {DEPTH_MAX} deep"));
                }
                continue;
            }
            // One that is not whole yet stands for nothing.
            Event::Alias(anchor) => anchored.get(&anchor).copied().unwrap_or(one),
            Event::Scalar(_, _, anchor, _) => {
                anchored.insert(anchor, one);
                one
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(ended) = open.pop() else { continue };
                anchored.insert(ended.anchor, ended.size);
                ended.size
            }
        };
        let deepest = open.len() + whole.depth;
        if deepest > DEPTH_MAX {
            return Some(format!("it is nested more than {DEPTH_MAX} deep"));
        }
        let Some(around) = open.last_mut() else { continue };
        around.size.values = around.size.values.saturating_add(whole.values);
        around.size.depth = around.size.depth.max(whole.depth + 1);
        if around.size.values > VALUES_MAX {
            return Some(format!("its aliases unfold into more than {VALUES_MAX} values"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_may_be_used_but_not_to_fill_the_memory() {
        assert_eq!(excess("a: &a {x: 1}\nb: *a\nc: [*a, *a]\n"), None);
        let mut text = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (of, name) in ('a'..'i').zip('b'..'j') {
            text.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 9].join(",")));
        }
        assert!(excess(&text).is_some_and(|why| why.contains("unfold")), "{text}");
    }

    #[test]
    fn brackets_are_counted_however_they_are_written() {
        assert_eq!(excess(&format!("{}{}", "[".repeat(DEPTH_MAX - 1), "]".repeat(DEPTH_MAX - 1))), None);
        let chained: String = (0..40).map(|at| format!("k{}: &n{} [*n{at}]\n", at + 1, at + 1)).collect();
        for text in ["[".repeat(200), "- ".repeat(200), format!("k0: &n0 x\n{chained}")] {
            assert!(excess(&text).is_some_and(|why| why.contains("deep")), "{text}");
        }
    }

    #[test]
    fn a_whole_cloud_of_hosts_is_not_too_much() {
        let hosts: String = (0..5000).map(|at| format!("  - name: host{at}\n    weight: 10\n")).collect();
        assert_eq!(excess(&format!("hosts:\n{hosts}")), None);
        assert!(excess(&"#".repeat(TEXT_MAX + 1)).is_some());
    }
}
