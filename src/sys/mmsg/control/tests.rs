//! What is written is read again, and what the C library's own macros write, too; and nothing leads outside.

use proptest::prelude::*;

use super::*;

fn told(control: &Control, len: usize) -> Vec<(libc::c_int, libc::c_int, Vec<u8>)> {
    let messages = control.messages(len);
    messages
        .map(|message| (message.level, message.kind, message.data.to_vec()))
        .collect()
}

fn empty() -> Control {
    Control([0; CONTROL_LEN])
}

#[test]
fn what_is_written_is_read() {
    let info = libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr { s6_addr: [7; 16] },
        ipi6_ifindex: 3,
    };
    let mut control = empty();
    let len = control.push(0, libc::SOL_IPV6, libc::IPV6_PKTINFO, info);
    let len = control.push(len, libc::SOL_UDP, libc::UDP_SEGMENT, 1_200_u16);
    let messages: Vec<_> = control.messages(len).collect();
    let kinds: Vec<_> = messages.iter().map(|it| (it.level, it.kind)).collect();
    let expected = [
        (libc::SOL_IPV6, libc::IPV6_PKTINFO),
        (libc::SOL_UDP, libc::UDP_SEGMENT),
    ];
    assert_eq!(kinds, expected);
    let read: libc::in6_pktinfo = messages[0].value().expect("packet information");
    assert_eq!((read.ipi6_addr.s6_addr, read.ipi6_ifindex), ([7; 16], 3));
    assert_eq!(messages[1].value::<u16>(), Some(1_200));
    assert_eq!(messages[1].value::<libc::c_int>(), None, "it is too short");
}

/// The sums are those of the C library, and so is what they make of a message.
#[test]
fn the_layout_is_that_of_the_c_library() {
    for data_len in 0..40_u32 {
        // SAFETY: plain arithmetic.
        let theirs = unsafe { (libc::CMSG_SPACE(data_len), libc::CMSG_LEN(data_len)) };
        let ours = (space_of(data_len as usize), DATA_AT + data_len as usize);
        assert_eq!((theirs.0 as usize, theirs.1 as usize), ours);
    }
    let mut control = empty();
    let len = control.push(0, libc::SOL_UDP, libc::UDP_GRO, 1_200 as libc::c_int);
    // SAFETY: all-zero is a valid `msghdr`; its pointer is to `control`, of the length given, which outlives it; and there
    // is a message there.
    let (message, value) = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = len as _;
        let message = libc::CMSG_FIRSTHDR(&raw const header);
        (
            *message,
            libc::CMSG_DATA(message)
                .cast::<libc::c_int>()
                .read_unaligned(),
        )
    };
    let told = (message.cmsg_level, message.cmsg_type, value);
    assert_eq!(told, (libc::SOL_UDP, libc::UDP_GRO, 1_200));
    // SAFETY: plain arithmetic.
    let expected = unsafe { libc::CMSG_LEN(size_of::<libc::c_int>() as libc::c_uint) };
    assert_eq!(message.cmsg_len, expected as usize);
}

#[test]
fn as_many_messages_fit_as_are_asked_for() {
    let mut control = empty();
    let addr = libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: 1,
        sin6_flowinfo: 2,
        sin6_addr: libc::in6_addr { s6_addr: [4; 16] },
        sin6_scope_id: 3,
    };
    let info = libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr { s6_addr: [7; 16] },
        ipi6_ifindex: 3,
    };
    let len = control.push(0, libc::SOL_IPV6, libc::IPV6_PKTINFO, info);
    let len = control.push(len, libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR, addr);
    let len = control.push(len, libc::SOL_UDP, libc::UDP_GRO, 9 as libc::c_int);
    assert_eq!((len, control.messages(len).count()), (CONTROL_LEN, 3));
}

#[test]
fn a_message_that_is_cut_is_none() {
    let mut control = empty();
    let one = control.push(0, libc::SOL_UDP, libc::UDP_GRO, 1 as libc::c_int);
    let two = control.push(one, libc::SOL_UDP, libc::UDP_GRO, 2 as libc::c_int);
    assert_eq!(control.messages(0).count(), 0);
    assert_eq!(control.messages(one - 5).count(), 0);
    assert_eq!(control.messages(two - 5).count(), 1);
    // The kernel does not count the padding behind the last.
    assert_eq!(control.messages(two - 4).count(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 16 } else { 1_000 },
        // Miri has no files.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Any bytes, of any length, as what the kernel wrote: there is an end, and no byte is told twice.
    #[test]
    fn any_bytes_have_an_end(
        bytes in any::<[u8; CONTROL_LEN]>(),
        lens in any::<[u8; 4]>(),
        len in 0..2 * CONTROL_LEN,
    ) {
        let mut control = Control(bytes);
        // Lengths that can be, where the first messages have theirs, or nearly every one would be too long.
        for (place, cmsg_len) in lens.into_iter().enumerate() {
            let at = place * space_of(4);
            let header = libc::cmsghdr {
                cmsg_len: cmsg_len.into(),
                cmsg_level: libc::SOL_UDP,
                cmsg_type: libc::UDP_GRO,
            };
            put(&mut control.0[at..], header);
        }
        let messages = told(&control, len);
        let lens = messages.iter().map(|(.., data)| DATA_AT + data.len());
        prop_assert!(lens.sum::<usize>() <= len.min(CONTROL_LEN));
    }
}
