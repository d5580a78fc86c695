//! The decoder and the encoder together: recorded exchanges with QEMU 7.2, limits, and the memory that is held.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use qmp_protocol::{
    Decoder, Format, Limits, Message, Payload, Value, encode_error, encode_return, encode_value,
};

/// What a server that knows every command answers to `input`, without the ends of lines.
fn answers(decoder: &mut Decoder, mut input: &[u8]) -> Vec<String> {
    let mut output = Vec::new();
    while let Some(message) = decoder.next(&mut input) {
        match message {
            Message::Request(request) => {
                encode_return(&mut output, &Payload::empty(), request.id.as_ref(), Format::Compact);
            }
            Message::Malformed(bad) => {
                encode_error(&mut output, &bad.error, bad.id.as_ref(), Format::Compact)
            }
        }
    }
    String::from_utf8(output).unwrap().split_terminator("\r\n").map(str::to_owned).collect()
}

fn fresh(input: &[u8]) -> Vec<String> {
    answers(&mut Decoder::new(Limits::default()), input)
}

/// The reply to a message that is no command.
fn refused(desc: &str) -> String {
    format!(r#"{{"error": {{"class": "GenericError", "desc": "{desc}"}}}}"#)
}

fn syntax(desc: &str) -> String {
    refused(&format!("JSON parse error, {desc}"))
}

#[test]
fn recorded_identifiers_come_back_in_canonical_form() {
    for (sent, echoed) in [
        ("1", "1"),
        ("-0", "0"),
        ("1e3", "1000"),
        ("0.3333333333333333333", "0.33333333333333331"),
        ("1e400", "inf"),
        ("18446744073709551616", "1.8446744073709552e+19"),
        (r#""\u00ff""#, r#""\u00FF""#),
        ("\"é中😀\u{7f}\"", r#""\u00E9\u4E2D\uD83D\uDE00\u007F""#),
        ("'a\"b'", r#""a\"b""#),
        (
            r#"{"z":1,"a":2,"m":3,"id":4,"return":5,"execute":6}"#,
            r#"{"a": 2, "execute": 6, "z": 1, "return": 5, "id": 4, "m": 3}"#,
        ),
    ] {
        let sent = format!(r#"{{"execute":"query-name","id":{sent}}}"#);
        assert_eq!(fresh(sent.as_bytes()), [format!(r#"{{"return": {{}}, "id": {echoed}}}"#)]);
    }
}

#[test]
fn recorded_faults_get_their_words() {
    for (sent, replies) in [
        ("5", vec![]),
        ("5 ", vec![refused("QMP input must be a JSON object")]),
        ("[NaN]", vec![syntax("stray 'N'"), syntax("expecting value")]),
        ("[-01]", vec![syntax("stray '-01'"), syntax("expecting value")]),
        ("[1.]", vec![syntax("stray '1.]'")]),
        ("{'execute\":1}\n", vec![syntax(r#"stray ''execute\":1}\n'"#)]),
        ("}{", vec![syntax("expecting value")]),
        ("[]]", vec![refused("QMP input must be a JSON object"), syntax("expecting value")]),
        ("\0", vec![syntax("stray ''")]),
        ("@@{\"execute\":\"x\"}", vec![syntax("stray '@'"), r#"{"return": {}}"#.to_owned()]),
        (r#"{"id":"e"}"#, vec![r#"{"id": "e", "error": {"class": "GenericError", "desc": "QMP input lacks member 'execute'"}}"#.to_owned()]),
        (r#"{"execute":1,"zz":2}"#, vec![refused("QMP input member 'execute' must be a string")]),
        (r#"{"execute":"x","exec-oob":"x"}"#, vec![refused("QMP input member 'exec-oob' is unexpected")]),
    ] {
        assert_eq!(fresh(sent.as_bytes()), replies, "{sent}");
    }
    assert_eq!(fresh(b"\xFF\xFF\n"), [syntax(r"stray '\uFFFD'"), syntax(r"stray '\uFFFD'")]);
}

#[test]
fn a_message_that_only_a_delimiter_ends_leaves_it() {
    let mut decoder = Decoder::new(Limits::default());
    let mut input: &[u8] = b"null";
    assert!(decoder.next(&mut input).is_none() && !decoder.is_idle());
    let mut input: &[u8] = b"]";
    assert!(decoder.next(&mut input).is_some());
    assert_eq!(input, b"]");
    assert!(decoder.next(&mut input).is_some() && input.is_empty());
}

#[test]
fn out_of_band_counts_from_the_next_message_on() {
    let mut decoder = Decoder::new(Limits::default());
    let text = br#"{"exec-oob": "yank"}"#;
    assert!(matches!(decoder.next(&mut &text[..]), Some(Message::Malformed(bad)) if !bad.oob));
    decoder.set_oob(true);
    assert!(matches!(decoder.next(&mut &text[..]), Some(Message::Request(request)) if request.oob));
}

#[test]
fn a_reset_forgets_half_a_message() {
    let mut decoder = Decoder::new(Limits::default());
    assert!(decoder.next(&mut &br#"{"execute": "#[..]).is_none());
    assert!(!decoder.is_idle());
    decoder.reset();
    assert!(decoder.is_idle());
    assert_eq!(answers(&mut decoder, br#"{"execute": "stop"}"#), [r#"{"return": {}}"#]);
}

#[test]
fn nesting_is_limited_and_the_rest_is_lexed_on() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(fresh(nested(1024).as_bytes()), [refused("QMP input must be a JSON object")]);
    let replies = fresh(nested(1025).as_bytes());
    assert_eq!(replies[0], refused("JSON nesting depth limit exceeded"));
    assert_eq!(replies[1..], vec![syntax("expecting value"); 1025]);
}

#[test]
fn tokens_are_limited() {
    let list = |ones: usize| format!("[0{}]", ",1".repeat(ones));
    assert_eq!(fresh(list(1_048_574).as_bytes()), [refused("QMP input must be a JSON object")]);
    let replies = fresh(format!("{}\n", list(1_048_576)).as_bytes());
    assert_eq!(replies[0], refused("JSON token count limit exceeded"));
}

#[test]
fn a_string_of_64_mib_is_refused_where_it_breaks_the_limit() {
    let mut decoder = Decoder::new(Limits::default());
    let chunk = vec![b'x'; 1 << 20];
    assert!(decoder.next(&mut &b"\""[..]).is_none());
    for _ in 0..63 {
        assert!(decoder.next(&mut &chunk[..]).is_none());
    }
    assert!(decoder.held_bytes() <= 2 * (63 << 20) + 16);
    // The quote and 2^26 - 1 letters reach the limit, one more letter breaks it.
    assert!(decoder.next(&mut &chunk[1..]).is_none());
    let mut input: &[u8] = b"x\"}";
    assert!(
        matches!(decoder.next(&mut input), Some(Message::Malformed(bad)) if bad.error.desc == "JSON token size limit exceeded")
    );
    assert_eq!(input, b"\"}");
    assert!(decoder.is_idle());
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn white_space_between_tokens_costs_nothing() {
    let mut decoder = Decoder::new(Limits::default());
    assert!(decoder.next(&mut &b"{"[..]).is_none());
    for _ in 0..1000 {
        assert!(decoder.next(&mut &b"   \n\t   "[..]).is_none());
    }
    assert!(decoder.held_bytes() <= 16);
    assert_eq!(answers(&mut decoder, b"\"execute\" : \"stop\"}"), [r#"{"return": {}}"#]);
}

#[test]
fn the_deepest_value_fits_a_small_stack() {
    let work = || {
        let text = format!(r#"{{"execute":"x","id":{}{}}}"#, "[".repeat(1023), "]".repeat(1023));
        let Some(Message::Request(request)) = Decoder::new(Limits::default()).next(&mut text.as_bytes())
        else {
            panic!("not a request");
        };
        let id: Value = request.id.unwrap();
        assert_eq!(id.clone(), id);
        let mut out = Vec::new();
        encode_value(&mut out, &id, Format::Compact);
        assert_eq!(out.len(), 2046);
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn sessions_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Decoder>();
    is_send::<Message>();
    is_send::<Payload>();
}

#[test]
fn unfinished_input_can_be_refused_and_is_then_forgotten() {
    let mut decoder = Decoder::new(Limits::default());
    assert!(decoder.refuse_unfinished().is_none());
    let text = format!("{{\"execute\": [{}", "1,".repeat(10_000));
    assert!(decoder.next(&mut text.as_bytes()).is_none());
    let Some(Message::Malformed(refused)) = decoder.refuse_unfinished() else { panic!("nothing was held") };
    assert_eq!(refused.error.desc, "JSON token size limit exceeded");
    assert_eq!((refused.id, refused.oob, decoder.held_bytes()), (None, false, 0));
    let mut next: &[u8] = b"{\"execute\": \"stop\"}";
    assert!(matches!(decoder.next(&mut next), Some(Message::Request(_))));
}
