use proptest::prelude::*;

use super::*;

fn positions(mask: u64, from: usize) -> impl Iterator<Item = usize> {
    (0..64).filter(move |bit| mask >> bit & 1 == 1).map(move |bit| from + bit)
}

/// The marks and starts of these bytes, which come in pieces of these sizes, over and over.
fn scan(input: &[u8], sizes: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut strings = Strings::default();
    let (mut marks, mut starts) = (Vec::new(), Vec::new());
    let (mut from, mut sizes) = (0, sizes.iter().cycle());
    while from < input.len() {
        let to = input.len().min(from + sizes.next().unwrap());
        let (length, events) =
            strings.read(&input[from..to], Class::covering([b'h', b'H'].into_iter()));
        assert_eq!(length, (to - from).min(BLOCK));
        marks.extend(positions(events.marks, from));
        starts.extend(positions(events.starts, from));
        from += length;
    }
    (marks, starts)
}

/// The same byte by byte.
fn reference(input: &[u8]) -> (Vec<usize>, Vec<usize>) {
    let (mut marks, mut starts) = (Vec::new(), Vec::new());
    let (mut is_inside, mut is_escaped, mut is_first) = (false, false, false);
    for (at, &byte) in input.iter().enumerate() {
        let is_quote = byte == b'"' && !is_escaped;
        is_inside ^= is_quote;
        if !is_inside && b"{}[]\\xyz|~_^XYZ\x7f".contains(&byte) {
            marks.push(at);
        }
        if is_first && b"hH/\\".contains(&byte) {
            starts.push(at);
        }
        is_first = is_quote && is_inside;
        is_escaped = byte == b'\\' && !is_escaped;
    }
    (marks, starts)
}

/// Bytes that matter, and long runs of backslashes and of bytes that do not.
fn any_input() -> impl Strategy<Value = Vec<u8>> {
    let run = prop_oneof![
        8 => prop::sample::select(b"\"\"\"\\\\{}[]:,hH/xz_ a\x00\x80\xff".to_vec()).prop_map(|byte| vec![byte]),
        1 => (0_usize..140).prop_map(|length| vec![b'\\'; length]),
        1 => (0_usize..140).prop_map(|length| vec![b'a'; length]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(run, 0..80).prop_map(|runs| runs.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn masks_agree_with_a_look_at_each_byte(input in any_input(), sizes in prop::collection::vec(1_usize..150, 1..10)) {
        prop_assert_eq!(scan(&input, &sizes), reference(&input));
    }

    #[test]
    fn a_class_is_found_at_every_place(block in any::<[u8; BLOCK]>(), ignored in any::<u8>(), value in any::<u8>()) {
        let class = Class { ignored, value };
        for class in [class, Class { ignored, value: value | ignored }, Class::MARK, Class::only(value)] {
            let wanted = |at: &usize| block[*at] | class.ignored == class.value;
            prop_assert_eq!(positions(class.mask(&block), 0).collect::<Vec<_>>(), (0..BLOCK).filter(wanted).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_class_covers_what_it_is_made_of(bytes in prop::collection::vec(any::<u8>(), 0..5)) {
        let class = Class::covering(bytes.iter().copied());
        prop_assert!(bytes.iter().all(|byte| byte | class.ignored == class.value));
    }

    #[test]
    fn escapes_agree_with_a_look_at_each_bit(backslashes in any::<u64>(), more in any::<u64>(), first in 0_u64..2) {
        for backslashes in [backslashes, backslashes | more, !(backslashes & more), u64::MAX, 0] {
            let (mut wanted, mut next) = (0, first);
            for bit in 0..64 {
                wanted |= next << bit;
                next = (backslashes >> bit & 1) & !next;
            }
            prop_assert_eq!(escaped(backslashes, first), wanted);
        }
    }

    #[test]
    fn prefixes_agree_with_a_count(bits in any::<u64>()) {
        let parity = |bit: u32| u64::from((bits << (63 - bit)).count_ones() % 2);
        prop_assert_eq!(prefix_xor(bits), (0..64).fold(0, |all, bit| all | parity(bit) << bit));
    }
}

#[test]
fn a_class_of_one_letter_has_no_others() {
    let class = Class::covering([b'h', b'H'].into_iter());
    let has = |byte: &u8| byte | class.ignored == class.value;
    assert_eq!((0..=255).filter(has).collect::<Vec<_>>(), [b'H', b'h']);
}
