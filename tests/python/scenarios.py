"""The reference client against the real daemon. Started by tests/python/run.

The daemon keeps 100 entries per inbox, and groups with more than three members are large. Every
test has users of its own.
"""

import os
import ssl
import subprocess
import tempfile
import time
import unittest

from roam_client import Client, Disconnected, RoamError, pb
from roam_store import Store

HOST, PORT = os.environ["ROAMD_TEST_ADDRESS"].rsplit(":", 1)
TLS_PORT = os.environ["ROAMD_TEST_TLS_ADDRESS"].rsplit(":", 1)[1]
KEPT = 100


def mint(user, *more):
    command = [os.environ["ROAMD_BIN"], "token", "mint", "--data", os.environ["ROAMD_TEST_DATA"]]
    done = subprocess.run([*command, "--user", user, *more], capture_output=True, check=True)
    return done.stdout.decode().strip()


class Recorder:
    """Checks that the entries of a device come one after the other."""

    def __init__(self):
        self.last, self.texts = None, []

    def __call__(self, seq, entry):
        assert self.last is None or seq == self.last + 1, (self.last, seq)
        self.last = seq
        if entry.HasField("message"):
            self.texts.append(entry.message.content.decode())


class Scenarios(unittest.TestCase):
    def device(self, user, name="phone", store=None, port=PORT, **more):
        user = f"{user}-{self.id().rsplit('.', 1)[1]}"
        store = store or Store()
        client = Client((HOST, int(port)), mint(user), name, store, on_entry=Recorder(), **more)
        client.user, client.seen, client.large, client.pushed = user, client.on_entry, [], []
        client.on_large, client.on_push = client.large.append, client.pushed.append
        self.addCleanup(store.db.close)
        self.addCleanup(client.abort)
        return client

    def wait(self, client, ready):
        end = time.monotonic() + 30
        while not ready():
            self.assertLess(time.monotonic(), end, "waited in vain")
            client.poll(0.01)

    def pair(self):
        alice, bob = self.device("alice"), self.device("bob")
        alice.connect()
        bob.connect()
        return alice, bob

    def test_login(self):
        alice = self.device("alice")
        alice.connect()
        self.assertEqual(alice.welcome.user_id, alice.user)
        self.assertEqual(alice.welcome.verdict, pb.VERDICT_TOO_LONG)
        self.assertTrue(alice.live)
        position = alice.store.position()
        self.assertEqual((position.epoch, position.seq), (alice.welcome.epoch, 0))
        alice.close()
        alice.connect()
        self.assertEqual(alice.welcome.verdict, pb.VERDICT_UP_TO_DATE)

    def test_tls(self):
        def context():
            return ssl.create_default_context(cafile=os.environ["ROAMD_TEST_AUTHORITY"])

        alice = self.device("alice", port=TLS_PORT, tls=context())
        bob = self.device("bob", port=TLS_PORT, tls=context())
        carol = self.device("carol")
        for client in (alice, bob, carol):
            client.connect()
        # Both directions at once, in records that need more than one turn of the socket.
        content = b"x" * 60_000
        for _ in range(20):
            alice.send(content, peer=bob.user)
            bob.send(content, peer=alice.user)
        carol.send(b"from the plain side", peer=bob.user)
        self.wait(bob, lambda: len(bob.seen.texts) == 41)
        self.wait(alice, lambda: len(alice.seen.texts) == 40)
        self.assertFalse(bob._socket.session_reused)
        bob.close()
        bob.connect()
        self.assertTrue(bob._socket.session_reused)
        bob.send(b"back again", peer=alice.user)
        self.wait(alice, lambda: alice.seen.texts[-1] == "back again")
        stranger = self.device("dave", port=TLS_PORT, tls=ssl.create_default_context())
        with self.assertRaises(ssl.SSLCertVerificationError):
            stranger.connect()

    def test_refused(self):
        alice = self.device("alice")
        for token, code in [
            ("nonsense", pb.ERROR_CODE_UNAUTHENTICATED),
            (mint(alice.user, "--device", "tablet"), pb.ERROR_CODE_UNAUTHENTICATED),
            (mint(alice.user, "--scope", "admin"), pb.ERROR_CODE_FORBIDDEN_SCOPE),
        ]:
            alice.token = token
            with self.assertRaises(RoamError) as refused:
                alice.reconnect()
            self.assertEqual((refused.exception.code, refused.exception.fatal), (code, True))

    def test_live_messages_both_ways(self):
        alice, bob = self.pair()
        first = alice.send("hi bob".encode(), peer=bob.user)
        second = bob.send("grüß dich".encode(), peer=alice.user)
        self.assertEqual(first.conversation_id, second.conversation_id)
        for client in (alice, bob):
            self.wait(client, lambda: len(client.seen.texts) == 2)
            self.assertEqual(client.seen.texts, ["hi bob", "grüß dich"])
        stored = bob.store.messages(first.conversation_id)
        self.assertEqual([message.sender for message in stored], [alice.user, bob.user])

    def test_offline_messages(self):
        alice, bob = self.pair()
        bob.close()
        sent = [str(number) for number in range(90)]
        for text in sent:
            alice.send(text.encode(), peer=bob.user)
        bob.connect()
        self.assertEqual(bob.welcome.verdict, pb.VERDICT_CATCH_UP)
        self.assertEqual(bob.seen.texts, sent)
        self.assertEqual(bob.unread_total, 90)
        self.assertEqual(bob.seen.last, bob.welcome.head_seq)

    def test_acks_are_few_and_move_the_cursor(self):
        alice, bob = self.pair()
        bob.acks_sent = 0
        for number in range(80):
            alice.send(b"x", peer=bob.user)
        self.wait(bob, lambda: len(bob.seen.texts) == 80)
        self.assertLess(bob.acks_sent, 40)
        bob.close()
        bob.connect()
        self.assertEqual(bob.welcome.device_cursor, 80)
        self.assertEqual(len(bob.seen.texts), 80, "nothing came twice")

    def test_a_lost_connection_costs_nothing(self):
        alice, bob = self.pair()
        texts = []
        for number in range(40):
            texts.append(str(number))
            alice.send(texts[-1].encode(), peer=bob.user)
            if number % 7 == 0:
                bob.abort()
                bob.reconnect()
        self.wait(bob, lambda: len(bob.seen.texts) >= 40)
        self.assertEqual(bob.seen.texts, texts)

    def test_history(self):
        alice, bob = self.pair()
        for number in range(1, 251):
            ack = alice.send(str(number).encode(), peer=bob.user)
        pages = list(bob.history(ack.conversation_id))
        self.assertEqual([len(page) for page in pages], [100, 100, 50])
        rows = [message.history_seq for page in reversed(pages) for message in page]
        self.assertEqual(rows, list(range(1, 251)))
        with self.assertRaises(RoamError) as refused:
            list(bob.history("nowhere"))
        self.assertEqual(refused.exception.code, pb.ERROR_CODE_NOT_FOUND)
        self.assertFalse(refused.exception.fatal)

    def test_away_for_too_long(self):
        alice, bob = self.pair()
        carol = self.device("carol")
        carol.connect()
        bob.close()
        carol.send(b"from carol", peer=bob.user)
        for number in range(KEPT + 30):
            ack = alice.send(str(number).encode(), peer=bob.user)
        bob.seen.last = None
        bob.connect()
        self.assertEqual(bob.welcome.verdict, pb.VERDICT_TOO_LONG)
        self.assertTrue(bob.live)
        self.assertEqual(bob.store.position().seq, KEPT + 31)
        self.assertEqual(bob.unread_total, KEPT + 31)
        known = {one.peer: one for one in bob.store.conversations()}
        self.assertEqual(set(known), {alice.user, carol.user})
        self.assertEqual(known[alice.user].unread, KEPT + 30)
        self.assertEqual(sum(map(len, bob.history(ack.conversation_id))), KEPT + 30)
        alice.send(b"live again", peer=bob.user)
        self.wait(bob, lambda: bob.seen.texts == ["live again"])

    def test_a_retry_is_the_same_message(self):
        alice, bob = self.pair()
        first = alice.send(b"once", peer=bob.user)
        send = pb.Send(peer=bob.user, client_message_id=7, content=b"by hand")
        by_hand = alice.request(send=send)
        alice.abort()
        alice.reconnect()
        again = alice.request(send=send)
        self.assertTrue(again.duplicate)
        by_hand.duplicate = True
        self.assertEqual(again, by_hand)
        send.content = b"changed"
        with self.assertRaises(RoamError) as refused:
            alice.request(send=send)
        self.assertEqual(refused.exception.code, pb.ERROR_CODE_IDEMPOTENCY_CONFLICT)
        self.assertEqual(first.history_seq, 1)
        self.wait(bob, lambda: len(bob.seen.texts) == 2)

    def test_an_app_that_dies_sends_once(self):
        _, bob = self.pair()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "device.sqlite")
            alice = self.device("alice", "laptop", Store(path))
            alice.connect()
            # The connection is gone before the answer can be read: the outcome is unknown.
            request, alice.request = alice.request, self.dying(alice)
            with self.assertRaises(Disconnected):
                alice.send(b"exactly once", peer=bob.user)
            self.assertEqual(len(alice.store.outbox()), 1)
            again = self.device("alice", "laptop", Store(path))
            again.connect()
            self.assertEqual(again.store.outbox(), [])
            again.send(b"another", peer=bob.user)
        self.wait(bob, lambda: len(bob.seen.texts) == 2)
        self.assertEqual(bob.seen.texts, ["exactly once", "another"])

    def dying(self, client):
        def request(**body):
            client._write(1_000_000, **body)
            self.wait(client, lambda: client.seen.texts)
            client.abort()
            raise Disconnected()

        return request

    def test_the_newest_session_of_a_device_wins(self):
        old, _ = self.pair()
        new = self.device("alice")
        new.connect()
        with self.assertRaises(Disconnected) as gone:
            old.poll(30)
        self.assertEqual(gone.exception.reason, pb.GO_AWAY_REASON_REPLACED)
        new.poll(0)

    def test_entries_of_a_later_version_still_count(self):
        alice = self.device("alice")
        alice.connect()
        entry = pb.Entry()
        entry.MergeFromString(b"\xc2\x02\x01?")  # Field 40, which nobody knows yet.
        alice._take(pb.SyncBatch(prev_seq=0, first_seq=1, last_seq=1, head_seq=1, entries=[entry]))
        self.assertEqual(alice.store.position().seq, 1)
        gap = pb.SyncBatch(prev_seq=2, first_seq=3, last_seq=3, head_seq=3, entries=[entry])
        with self.assertRaises(RuntimeError):
            alice._take(gap)


    def test_recall_edit_and_the_feed_of_changes(self):
        alice, bob = self.pair()
        for text in ("one", "two", "three"):
            ack = alice.send(text.encode(), peer=bob.user)
        here = ack.conversation_id
        self.wait(bob, lambda: len(bob.seen.texts) == 3)
        alice.recall(here, 1)
        self.assertEqual(alice.recall(here, 1).inbox_seq, 0, "a repeat does nothing")
        alice.edit(here, 2, b"zwei", base=0)
        with self.assertRaises(RoamError) as refused:
            alice.edit(here, 2, b"deux", base=0)
        self.assertEqual(refused.exception.code, pb.ERROR_CODE_CONFLICT)
        self.wait(bob, lambda: bob.store.mutation(here) == 2)
        one, two, three = bob.store.messages(here)
        self.assertEqual((one.state, one.content), (pb.MESSAGE_STATE_RECALLED, b""))
        self.assertEqual((two.content, two.revision), (b"zwei", 1))
        bob.request(delete_for_me=pb.DeleteForMe(conversation_id=here, history_seqs=[3]))
        self.wait(bob, lambda: not bob.store.messages(here)[2].content)
        self.assertEqual(three.content, b"three")
        # A device that was away gets the stub, never the content.
        late = self.device("bob", "tablet")
        late.connect()
        states = [one.state for page in late.history(here) for one in page]
        self.assertEqual(states, [pb.MESSAGE_STATE_RECALLED, pb.MESSAGE_STATE_NORMAL,
                                  pb.MESSAGE_STATE_HIDDEN])
        # One that was away for too long asks what changed in what it has.
        bob.close()
        alice.edit(here, 2, b"two again")
        for number in range(KEPT + 10):
            alice.send(b"x", peer=bob.user)
        bob.seen.last = None
        bob.connect()
        self.assertEqual(bob.welcome.verdict, pb.VERDICT_TOO_LONG)
        self.assertEqual(bob.store.messages(here)[1].content, b"two again")

    def crowd(self, owner, *members):
        """A group of four: it is large."""
        users = [one.user for one in members] + ["x", "y", "z"]
        group = pb.CreateGroup(client_request_id=1 << 40, title="crowd", user_ids=users[:3])
        return owner.request(create_group=group).conversation_id

    def test_a_large_group(self):
        alice, bob = self.pair()
        group = self.crowd(alice, bob)
        texts = lambda: [one.content.decode() for one in bob.large]
        sent = [str(number) for number in range(1, 11)]
        for text in sent:
            self.assertEqual(alice.send(text.encode(), conversation=group).inbox_seq, 0)
        self.wait(bob, lambda: len(bob.large) == 10)
        self.wait(bob, lambda: bob.unread_total == 10)
        alice.edit(group, 4, b"four")
        self.wait(bob, lambda: texts()[-1] == "four")
        self.assertEqual(texts(), sent + ["four"])
        self.assertEqual(bob.seen.texts, [], "no entries of the inbox")
        # Away: a hint tells at the next start, the history has the messages, the feed the changes.
        bob.close()
        for number in range(300):
            alice.send(str(number).encode(), conversation=group)
        alice.recall(group, 5)
        del bob.large[:]
        bob.connect()
        self.assertEqual(texts()[:300], [str(number) for number in range(300)])
        self.assertEqual(bob.large[300].state, pb.MESSAGE_STATE_RECALLED)
        stored = bob.store.messages(group)
        self.assertEqual([one.history_seq for one in stored], list(range(1, 311)))
        self.assertEqual(stored[4].content, b"")
        # A lost push is a gap, which is seen and fetched.
        del bob.large[:]
        push, bob._push = bob._push, lambda lost: None
        alice.send(b"lost", conversation=group)
        alice.send(b"lost too", conversation=group)
        self.wait(bob, lambda: bob.unread_total == 311)
        bob._push = push
        alice.send(b"there", conversation=group)
        self.wait(bob, lambda: len(bob.large) == 3)
        self.assertEqual(texts(), ["lost", "lost too", "there"])

    def test_a_group_that_grows_and_shrinks(self):
        alice, bob = self.pair()
        create = pb.CreateGroup(client_request_id=1 << 40, user_ids=[bob.user, "x"])
        group = alice.request(create_group=create).conversation_id
        for turn in range(6):
            change = {"conversation_id": group, "user_ids": ["y"]}
            if turn % 2:
                alice.request(remove_members=pb.RemoveMembers(**change))
            else:
                alice.request(add_members=pb.AddMembers(**change))
            if turn == 3:
                bob.abort()
            for _ in range(5):
                alice.send(b"x", conversation=group)
            if turn == 4:
                bob.reconnect()
        bob.poll(0.3)
        self.wait(bob, lambda: len(bob.store.messages(group)) == 30)
        rows = [one.history_seq for one in bob.store.messages(group)]
        self.assertEqual(rows, list(range(1, 31)))
        self.assertEqual(len(bob.seen.texts) + len(bob.large), 30, "each once, one way or the other")
        self.wait(bob, lambda: not bob.store.large())

    def test_presence_and_typing(self):
        alice, bob = self.pair()
        here = alice.send(b"hi", peer=bob.user).conversation_id
        alice.watch(bob.user)
        phone = (bob.user, "phone")
        self.assertEqual(alice.presence, {phone: pb.PRESENCE_STATE_ONLINE})
        bob.request(set_presence=pb.SetPresence(state=pb.PRESENCE_STATE_BACKGROUND))
        self.wait(alice, lambda: alice.presence[phone] == pb.PRESENCE_STATE_BACKGROUND)
        bob.request(send_ephemeral=pb.SendEphemeral(
            conversation_id=here, content_type="typing", content=b"1"))
        typing = lambda: [one for one in alice.pushed if one.HasField("ephemeral_push")]
        self.wait(alice, typing)
        self.assertEqual(typing()[0].ephemeral_push.sender, bob.user)
        bob.abort()
        self.wait(alice, lambda: not alice.presence)


if __name__ == "__main__":
    unittest.main(verbosity=2)
