"""A client of roamd on the official protobuf runtime: what a device has to do, in one file.

Blocking, for one thread; a second one only reads frames. What a device must not forget is in
roam_store.py. The words and rules are those of docs/protocol.md; README.md shows how to use it.
"""

import contextlib
import io
import queue
import random
import select
import socket
import ssl
import threading
import time

from google.protobuf import proto
from roamd.v1 import roamd_pb2 as pb

ACK_ENTRIES, ACK_BYTES, ACK_DELAY = 64, 64 * 1024, 0.2
REPLY_TIMEOUT = 30.0


class RoamError(Exception):
    """The server refused. Branch on `code`; `retry` says what may help."""

    def __init__(self, error):
        super().__init__(f"{pb.ErrorCode.Name(error.code)}: {error.detail}")
        self.code, self.retry, self.fatal = error.code, error.retry, error.fatal
        self.retry_after = error.retry_after_ms / 1000


class Disconnected(Exception):
    """The connection is over. `reason` is that of GoAway, if there was one."""

    def __init__(self, reason=pb.GO_AWAY_REASON_UNSPECIFIED, retry_after=0.0):
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class _TlsStream(io.RawIOBase):
    """A TLS socket for two threads: OpenSSL takes one at a time, so nobody waits inside it."""

    def __init__(self, tls):
        tls.setblocking(False)
        self._tls, self._turn = tls, threading.Lock()

    def readable(self):
        return True

    def writable(self):
        return True

    def readinto(self, room):
        return self._do(lambda: self._tls.recv_into(room))

    def write(self, data):
        return self._do(lambda: self._tls.send(data))

    def _do(self, step):
        while True:
            with self._turn:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    reads, writes = [self._tls], []
                except ssl.SSLWantWriteError:
                    reads, writes = [], [self._tls]
            select.select(reads, writes, [])


class Client:
    """One device. `on_entry(inbox_seq, entry)` is called for each new entry once it is stored,
    `on_large(message)` for each new message of a large group and again when it has changed, and
    `on_push(frame)` for what is not stored: presence, typing, totals. `tls` is an `ssl.SSLContext`,
    such as `ssl.create_default_context(cafile="ca.pem")`; without one the connection is plain."""

    def __init__(self, address, token, device, store, on_entry=lambda seq, entry: None,
                 on_large=lambda message: None, on_push=lambda frame: None, tls=None):
        self.address, self.token, self.device, self.tls = address, token, device, tls
        self.store, self.on_entry, self.on_large, self.on_push = store, on_entry, on_large, on_push
        self.presence, self._stale = {}, set()
        self.welcome, self.unread_total, self.live = None, 0, False
        self.acks_sent, self._socket, self._heartbeat = 0, None, float("inf")
        self._ticket = None

    def connect(self):
        """Hello, the version compare, what was missed, and what waits in the outbox."""
        self.abort()
        plain = socket.create_connection(self.address, timeout=REPLY_TIMEOUT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            # A device comes back with the ticket of its last connection.
            self._socket = self.tls.wrap_socket(
                plain, server_hostname=self.address[0], session=self._ticket)
            stream = _TlsStream(self._socket)
            source, self._output = io.BufferedReader(stream), io.BufferedWriter(stream)
        else:
            plain.settimeout(None)
            self._socket = plain
            source, self._output = plain.makefile("rb"), plain.makefile("wb")
        self._frames = queue.SimpleQueue()
        self._req_id, self._replies, self.live = 0, {}, False
        self._entries, self._bytes, self._ack_due = 0, 0, float("inf")
        threading.Thread(target=self._read, args=(source, self._frames), daemon=True).start()
        self.welcome = self.request(hello=pb.Hello(
            protocol_min=1, protocol_max=1, token=self.token, device_id=self.device,
            platform="python", client="roam_client.py/2", resume=self.store.position(),
            features=[pb.FEATURE_LARGE_GROUPS, pb.FEATURE_PRESENCE, pb.FEATURE_MUTATIONS],
            conversation_cursors=self._cursors()))
        self._heartbeat = self.welcome.heartbeat_interval_ms / 1000
        self._number = self.welcome.last_client_message_id
        # What was announced in an earlier life and is not here yet.
        self._stale = self._ending()
        while not self.live:
            self._handle(self._next(time.monotonic() + REPLY_TIMEOUT))
        self._follow()
        for send in self.store.outbox():
            self._number = max(self._number, send.client_message_id)
            self._deliver(send)

    def reconnect(self, attempts=10):
        """Connects with growing pauses and jitter, unless the server says that it is no use."""
        for attempt in range(attempts):
            least = 0.0
            try:
                return self.connect()
            except RoamError as error:
                if error.retry not in (pb.RETRY_AFTER_DELAY, pb.RETRY_RECONNECT, pb.RETRY_SAME_ID):
                    raise
                least = error.retry_after
            except Disconnected as gone:
                if gone.reason == pb.GO_AWAY_REASON_REPLACED:
                    raise
                least = gone.retry_after
            except OSError:
                pass
            time.sleep(least + random.uniform(0, min(30.0, 0.1 * 2 ** attempt)))
        raise Disconnected()

    def send(self, content, *, peer=None, conversation=None, content_type="text/plain"):
        """Sends a message. After Disconnected the next connect() sends it again, with its number."""
        self._number += 1
        send = pb.Send(peer=peer, conversation_id=conversation, client_message_id=self._number,
                       created_at_ms=time.time_ns() // 1_000_000, content_type=content_type,
                       content=content)
        self.store.queue(send)
        return self._deliver(send)

    def poll(self, seconds):
        """Takes what comes in this time; acks and heartbeats go out when they are due."""
        end = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            while True:
                self._handle(self._next(end))
                self._follow()

    def request(self, **body):
        """Asks, and returns the reply: `request(fetch_history=pb.FetchHistory(...))`."""
        self._req_id += 1
        req_id, end = self._req_id, time.monotonic() + REPLY_TIMEOUT
        self._replies[req_id] = None
        self._write(req_id, **body)
        while self._replies[req_id] is None:
            self._handle(self._next(end))
        frame = self._replies.pop(req_id)
        reply = getattr(frame, frame.WhichOneof("body"))
        if isinstance(reply, pb.Error):
            raise RoamError(reply)
        return reply

    def history(self, conversation, page=100):
        """The messages of a conversation, page by page: newest page first, oldest first in it."""
        direction, anchor = pb.DIRECTION_NEWEST, 0
        while True:
            got = self.request(fetch_history=pb.FetchHistory(
                conversation_id=conversation, direction=direction, anchor_seq=anchor, limit=page))
            yield list(got.messages)
            if got.complete:
                return
            direction, anchor = pb.DIRECTION_OLDER, got.first_seq

    def recall(self, conversation, history_seq):
        """Takes a message back, for everyone. Repeating it does no harm."""
        return self.request(recall=pb.Recall(conversation_id=conversation, history_seq=history_seq))

    def edit(self, conversation, history_seq, content, *, content_type="text/plain", base=None):
        """Replaces the content of an own message; CONFLICT when `base` is not its revision."""
        return self.request(edit=pb.Edit(
            conversation_id=conversation, history_seq=history_seq, content_type=content_type,
            content=content, base_revision=base))

    def refresh(self, conversation):
        """Brings cached messages up to date by the feed of changes; gives those that changed."""
        changed = []
        while True:
            page = self.request(fetch_mutations=pb.FetchMutations(
                conversation_id=conversation, limit=200,
                after_mutation_seq=self.store.mutation(conversation)))
            with self.store.transaction():
                for mutation in page.mutations:
                    self.store.change(mutation.message, mutation.mutation_seq)
                self.store.changed_to(conversation, page.last_mutation_seq)
            changed += [mutation.message for mutation in page.mutations]
            if page.complete:
                return changed

    def watch(self, *users):
        """Subscribes to the presence of users. `presence` is kept up to date while the session lives:
        {(user, device): state} of every device that is there."""
        snapshot = self.request(subscribe_presence=pb.SubscribePresence(user_ids=users))
        self.presence = {at: state for at, state in self.presence.items() if at[0] not in users}
        self._present(snapshot)

    def close(self):
        """Bye, with everything acked. The server ends the connection after the last reply."""
        if self._socket:
            with contextlib.suppress(OSError, queue.Empty):
                self._write(0, bye=pb.Bye())
                while self._frames.get(timeout=REPLY_TIMEOUT) is not None:
                    pass
        self.abort()

    def abort(self):
        """Ends the connection without a word, as a crash or a lost network would."""
        if self._socket:
            self._ticket = getattr(self._socket, "session", None)  # None without TLS.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                self._output.close()
            self._socket.close()
            self._socket = None

    def _deliver(self, send):
        try:
            ack = self.request(send=send)
        except RoamError as error:
            if error.retry == pb.RETRY_NEVER:
                self.store.settle(send)
            raise
        self.store.settle(send)
        return ack

    def _write(self, req_id, **body):
        """Any frame carries the ack of everything stored."""
        ack = self.store.position().seq if self._entries else 0
        self.acks_sent += bool(ack)
        self._entries, self._bytes, self._ack_due = 0, 0, float("inf")
        frame = pb.ClientFrame(req_id=req_id, ack_seq=ack, **body)
        try:
            proto.serialize_length_prefixed(frame, self._output)
            self._output.flush()
        except OSError:
            pass  # The reading thread hears of it, and what was said before it.
        self._ping_due = time.monotonic() + self._heartbeat

    def _ack(self):
        self._write(0, ack=pb.Ack(seq=self.store.position().seq))

    @staticmethod
    def _read(stream, frames):
        """The second thread. What waits here is bounded by what the server sends without an ack."""
        with contextlib.suppress(OSError, ValueError), stream:
            while (frame := proto.parse_length_prefixed(pb.ServerFrame, stream)) is not None:
                frames.put(frame)
        frames.put(None)

    def _next(self, end):
        while True:
            due = min(end, self._ack_due, self._ping_due)
            try:
                frame = self._frames.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                now = time.monotonic()
                if now >= self._ack_due:
                    self._ack()
                elif now >= self._ping_due:
                    self._req_id += 1
                    self._write(self._req_id, ping=pb.Ping())
                elif now >= end:
                    raise TimeoutError from None
                continue
            if frame is None:
                raise Disconnected()
            return frame

    def _handle(self, frame):
        if frame.req_id in self._replies:
            self._replies[frame.req_id] = frame
            return
        match frame.WhichOneof("body"):
            case "sync_batch":
                self._take(frame.sync_batch)
            case "caught_up":
                self.live, self.unread_total = True, frame.caught_up.unread_total
                for hint in frame.caught_up.hints:
                    self._hint(hint)
                if self._entries:
                    self._ack()
            case "conversation_push":
                self._push(frame.conversation_push)
            case "presence_push":
                self._present(frame.presence_push)
                self.on_push(frame)
            case "unread_push":
                self.unread_total = frame.unread_push.unread_total
                self.on_push(frame)
            case "ephemeral_push":
                self.on_push(frame)
            case "too_long":
                self._resync(frame.too_long)
            case "go_away":
                raise Disconnected(frame.go_away.reason, frame.go_away.retry_after_ms / 1000)
            case "error":
                raise RoamError(frame.error)
            case _:
                pass  # A pong, or something of a later version.

    def _take(self, batch):
        at = self.store.position()
        if batch.prev_seq > at.seq or batch.first_seq != batch.prev_seq + 1:
            raise RuntimeError(f"a gap: stored up to {at.seq}, got {batch.first_seq}")
        # After a crash of the server some may come again.
        numbered = enumerate(batch.entries, batch.first_seq)
        fresh = [(seq, entry) for seq, entry in numbered if seq > at.seq]
        self.store.save_batch(at.epoch, max(at.seq, batch.last_seq), [one for _, one in fresh],
                              self.welcome.user_id, self.welcome.limits.fanout_limit)
        # Of a group that ceased to be large, changes of messages were no entries until then.
        self._stale |= self._ending()
        self._ack_due = min(self._ack_due, time.monotonic() + ACK_DELAY)
        self._entries, self._bytes = self._entries + len(fresh), self._bytes + batch.ByteSize()
        if self._entries >= ACK_ENTRIES or self._bytes >= ACK_BYTES:
            self._ack()
        for seq, entry in fresh:
            self.on_entry(seq, entry)

    def _resync(self, too_long):
        """The inbox cannot help: the message index, then the position that belongs to it."""
        conversations, page_token, complete, self.live = [], b"", False, False
        while not complete:
            page = self.request(list_conversations=pb.ListConversations(
                snapshot_token=too_long.snapshot_token, page_token=page_token, limit=200))
            conversations += page.conversations
            page_token, complete = page.next_page_token, page.complete
        position = pb.Position(epoch=too_long.epoch, seq=too_long.head_seq)
        self.store.adopt(position, conversations)
        # Cached messages stay true but for their changes.
        self._stale |= {one.conversation_id for one in conversations
                        if one.mutation_seq > self.store.mutation(one.conversation_id)}
        reply = self.request(resume=pb.Resume(position=position))
        if isinstance(reply, pb.TooLong):
            self._resync(reply)

    # Large groups. Their messages are no entries: pushes bring them while the device is live, hints
    # tell how far they went meanwhile. Both say what was before, so a gap is seen and fetched. What
    # is announced is stored before it is fetched.

    def _cursors(self):
        """How far this device has each; the first frame is small, and the others are hinted."""
        large = list(self.store.large().items())[:32]
        return [pb.ConversationCursor(
            conversation_id=one, history_seq=history, mutation_seq=self.store.mutation(one),
            version=version) for one, (history, _, version, _) in large]

    def _ending(self):
        return {one for one, (_, _, _, ends) in self.store.large().items() if ends}

    def _hint(self, hint):
        conversation = hint.conversation_id
        if conversation not in self.store.large():
            self.store.begin(conversation, hint.history_seq)
        self.store.announce(conversation, hint.history_seq, hint.version)
        if hint.mutation_seq > self.store.mutation(conversation):
            self._stale.add(conversation)

    def _push(self, push):
        conversation, message = push.conversation_id, push.message
        if not push.HasField("message"):
            self.store.announce(conversation, 0, push.version)
            return
        if conversation not in self.store.large():
            before = message.history_seq if push.mutation_seq else push.prev_history_seq
            self.store.begin(conversation, before)
        history, head, _, _ = self.store.large()[conversation]
        if push.mutation_seq:
            known = self.store.mutation(conversation)
            if push.prev_mutation_seq > known or history < head:
                self._stale.add(conversation)
            elif push.mutation_seq > known:
                self.store.change(message, push.mutation_seq)
                self.on_large(message)
        elif push.prev_history_seq > history:
            self.store.announce(conversation, message.history_seq)
        elif message.history_seq > history:
            for fresh in self.store.save_large(conversation, [message], message.history_seq):
                self.on_large(fresh)

    def _follow(self):
        """Fetches what is announced and not here."""
        for conversation, (history, head, _, ends) in self.store.large().items():
            while history < head:
                history = self._fill(conversation, history, head)
            if ends and conversation in self._stale:
                self._changes(conversation)
                self.store.forget_large(conversation)
        for conversation in list(self._stale):
            self._changes(conversation)

    def _changes(self, conversation):
        self._stale.discard(conversation)
        large = conversation in self.store.large()
        with contextlib.suppress(RoamError):
            for message in self.refresh(conversation):
                if large:
                    self.on_large(message)

    def _fill(self, conversation, history, head):
        try:
            page = self.request(fetch_history=pb.FetchHistory(
                conversation_id=conversation, direction=pb.DIRECTION_NEWER, anchor_seq=history,
                limit=200))
        except RoamError as error:
            if error.code == pb.ERROR_CODE_BELOW_FLOOR and history:
                return self._fill(conversation, 0, head)
            if error.retry != pb.RETRY_NEVER:
                raise
            page = pb.HistoryPage(complete=True)
        # Never beyond what was announced: the rest comes another way.
        messages = [one for one in page.messages if one.history_seq <= head]
        reached = head if page.complete else min(page.last_seq, head)
        for message in self.store.save_large(conversation, messages, reached):
            self.on_large(message)
        return reached

    def _present(self, devices):
        for one in devices.devices:
            if one.state == pb.PRESENCE_STATE_OFFLINE:
                self.presence.pop((one.user_id, one.device_id), None)
            else:
                self.presence[one.user_id, one.device_id] = one.state
