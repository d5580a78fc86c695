//! A monitor without commands: greets, reads standard input, answers every message on standard output.
//!
//! `cargo run -p qmp-protocol --example echo`, then type `{'execute': 'query-name', 'id': 1}` or something worse.

use std::io::{self, Read, Write};

use qmp_protocol::{
    Decoder, Error, ErrorClass, Format, Limits, Message, Version, encode_error, encode_greeting,
};

fn main() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut decoder = Decoder::new(Limits::default());
    let mut reply = Vec::new();
    let version = Version { major: 7, minor: 2, micro: 0, package: "echo example".to_owned() };
    encode_greeting(&mut reply, &version, &[], Format::Compact);

    let mut buffer = [0; 4096];
    loop {
        output.write_all(&reply)?;
        output.flush()?;
        reply.clear();
        let received = input.read(&mut buffer)?;
        if received == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..received];
        while let Some(message) = decoder.next(&mut rest) {
            let (error, id) = match message {
                Message::Request(request) => {
                    let desc = format!("The command {} has not been found", request.execute);
                    (Error::new(ErrorClass::CommandNotFound, desc), request.id)
                }
                Message::Malformed(bad) => (bad.error, bad.id),
            };
            encode_error(&mut reply, &error, id.as_ref(), Format::Compact);
        }
    }
}
