//! One connection over a cable: two directions, each cut into messages, each message with its fate.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use maglica_proto::transport::zmtp::{Decoder, GREETING_LEN, Item, Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::sleep,
};

use super::{Cable, Mood, Port};
use crate::dice::Dice;

/// The command bit of a frame.
const COMMAND: u8 = 0x04;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Up,
    Down,
}

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Drop,
    Delay(Duration),
    Repeat(Duration),
    Late(Duration),
    Damage(u64),
}

/// Both ends of a connection: whoever says so ends it for all.
#[derive(Clone)]
struct Life {
    near: Arc<watch::Sender<bool>>,
    far: Arc<watch::Sender<bool>>,
}

impl Life {
    fn end_all(&self) {
        self.near.send_replace(true);
        self.far.send_replace(true);
    }

    fn of(&self, side: Side) -> watch::Receiver<bool> {
        match side {
            Side::Up => self.far.subscribe(),
            Side::Down => self.near.subscribe(),
        }
    }
}

async fn over(mut life: watch::Receiver<bool>) {
    // A sender that is gone says the same.
    let _ = life.wait_for(|over| *over).await;
}

/// Relays until one end closes, or the cable's mood ends it.
pub(super) fn carry(near: TcpStream, far: TcpStream, cable: &Cable, up: Dice, down: Dice) {
    let life = Life { near: Arc::new(watch::Sender::new(false)), far: Arc::new(watch::Sender::new(false)) };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    for (side, from, to, dice) in [(Side::Up, near_read, far_write, up), (Side::Down, far_read, near_write, down)] {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(write(to, receiver, life.of(side), life.clone()));
        let pump = Pump { cable: cable.clone(), side, dice, out: sender, life: life.clone() };
        tokio::spawn(pump.run(from));
    }
    let (mut mood, resets) = (cable.inner.mood.subscribe(), cable.inner.mood.borrow().resets);
    tokio::spawn(async move {
        let near = life.near.subscribe();
        tokio::select! {
            () = over(near) => {}
            _ = mood.wait_for(|mood| mood.resets > resets) => life.end_all(),
        }
    });
}

async fn write(
    mut to: OwnedWriteHalf,
    mut from: mpsc::UnboundedReceiver<Bytes>,
    life: watch::Receiver<bool>,
    all: Life,
) {
    let work = async {
        while let Some(bytes) = from.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = over(life) => {}
    }
    drop(to);
    // Whoever reads from here has nothing more to say to anybody.
    sleep(Duration::from_millis(1)).await;
    all.end_all();
}

struct Pump {
    cable: Cable,
    side: Side,
    dice: Dice,
    out: mpsc::UnboundedSender<Bytes>,
    life: Life,
}

impl Pump {
    async fn run(mut self, mut from: OwnedReadHalf) {
        let end = match self.side {
            Side::Up => self.life.near.subscribe(),
            Side::Down => self.life.far.subscribe(),
        };
        tokio::select! {
            () = self.pass(&mut from) => {}
            () = over(end) => {}
        }
        // What is still on its way arrives; the writer ends with the last of it.
    }

    async fn pass(&mut self, from: &mut OwnedReadHalf) {
        let mut buffer = BytesMut::with_capacity(16 * 1024);
        let mut greeting = GREETING_LEN;
        let mut decoder = Decoder::new(Limits { max_command: 4096, ..Limits::default() });
        while let Ok(count) = from.read_buf(&mut buffer).await {
            if count == 0 {
                return;
            }
            if greeting > 0 {
                let part = buffer.split_to(greeting.min(buffer.len()));
                greeting -= part.len();
                self.send(part.freeze());
            }
            decoder.feed(&buffer);
            buffer.clear();
            loop {
                match decoder.next() {
                    Ok(None) => break,
                    Ok(Some(Item::Command(body))) => self.send(command(&body)),
                    Ok(Some(Item::Message(message))) => {
                        if !self.message(message.raw().clone()) {
                            return;
                        }
                    }
                    // Nobody here speaks so; let the ends judge it.
                    Err(_) => return,
                }
            }
        }
    }

    fn mood(&self) -> Mood {
        *self.cable.inner.mood.borrow()
    }

    fn send(&self, bytes: Bytes) {
        let mood = self.mood();
        let swallowed = match self.side {
            Side::Up => mood.hole_up,
            Side::Down => mood.hole_down,
        };
        if swallowed {
            self.cable.count("swallowed");
        } else {
            let _ = self.out.send(bytes);
        }
    }

    fn send_after(&self, wait: Duration, bytes: Bytes) {
        let out = self.out.clone();
        tokio::spawn(async move {
            sleep(wait).await;
            let _ = out.send(bytes);
        });
    }

    /// False if the asker is gone.
    fn message(&mut self, raw: Bytes) -> bool {
        let fate = self.fate();
        match fate {
            Fate::Pass => self.send(raw),
            Fate::Drop => {
                self.cable.count("lost");
                if self.cable.inner.port == Port::Rep {
                    // TCP loses nothing in the middle of a connection: what is lost takes the connection with it.
                    let (life, wait) = (self.life.clone(), Duration::from_millis(self.dice.within(1..300)));
                    tokio::spawn(async move {
                        sleep(wait).await;
                        life.end_all();
                    });
                }
            }
            Fate::Delay(wait) => {
                self.cable.count("delayed");
                self.send_after(wait, raw);
            }
            Fate::Repeat(wait) => {
                self.cable.count("repeated");
                self.send(raw.clone());
                self.send_after(wait, raw);
            }
            Fate::Late(wait) => {
                self.cable.count("late");
                self.send_after(wait, raw);
                self.life.near.send_replace(true);
                return false;
            }
            Fate::Damage(place) => {
                self.cable.count("damaged");
                self.send(damaged(&raw, place));
            }
        }
        true
    }

    fn fate(&mut self) -> Fate {
        let weather = self.mood().weather;
        // Always as many numbers for a message, so that one mood does not shift what the next one draws.
        let (chance, wait, place) = (self.dice.within(0..100), self.dice.roll(), self.dice.roll());
        let wait = Duration::from_millis(wait % weather.delay_ms.max(1));
        let mut least = 0;
        let mut falls = |share: u64| {
            let hit = (least..least + share).contains(&chance);
            least += share;
            hit
        };
        let question = self.side == Side::Up && self.cable.inner.port == Port::Rep;
        if falls(weather.drop) {
            Fate::Drop
        } else if falls(weather.repeat) {
            Fate::Repeat(wait / 4)
        } else if falls(weather.damage) {
            Fate::Damage(place)
        } else if falls(weather.late) && question {
            Fate::Late(wait * 3)
        } else if falls(weather.delay) {
            Fate::Delay(wait)
        } else {
            Fate::Pass
        }
    }
}

fn command(body: &[u8]) -> Bytes {
    let mut raw = BytesMut::with_capacity(body.len() + 9);
    match u8::try_from(body.len()) {
        Ok(short) => raw.extend_from_slice(&[COMMAND, short]),
        Err(_) => {
            raw.extend_from_slice(&[COMMAND | 0x02]);
            raw.extend_from_slice(&(body.len() as u64).to_be_bytes());
        }
    }
    raw.extend_from_slice(body);
    raw.freeze()
}

/// One bit in the second half is turned, which is never a frame's header; or a reserved bit of the first header is set.
fn damaged(raw: &Bytes, place: u64) -> Bytes {
    let mut bytes = raw.to_vec();
    let half = bytes.len() / 2;
    if place.is_multiple_of(8) {
        if let Some(flags) = bytes.first_mut() {
            *flags |= 0x80;
        }
    } else if let Some(byte) = usize::try_from(place).ok().and_then(|place| bytes.get_mut(half + place % (half.max(1))))
    {
        *byte ^= 1 << (place % 7);
    }
    bytes.into()
}
