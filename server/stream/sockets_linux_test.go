package stream_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// readersEnv, when set to "address streams protocol", makes the test binary the readers of a benchmark: a process
// of its own, so that the server's processor time can be told from theirs.
const readersEnv = "PARLEY_BENCH_READERS"

// stamp is the byte before the time at which a benchmark's message was sent, in nanoseconds. One per delivery.
const stamp = '~'

// TestReaders is the other process of the benchmarks over sockets. It opens the streams, says so, reads all of them with
// one goroutine and one buffer, and answers each line on its input with what it has seen since the last one.
func TestReaders(t *testing.T) {
	setting, ok := os.LookupEnv(readersEnv)
	if !ok {
		t.Skip("only a part of the benchmarks over sockets")
	}
	var addr, protocol string
	var n int
	_, err := fmt.Sscan(setting, &addr, &n, &protocol)
	require.NoError(t, err)
	request := subscribeRequest
	if protocol == "h2" {
		request = subscribeRequestH2
	}
	poll, err := syscall.EpollCreate1(0)
	require.NoError(t, err)
	to, err := net.ResolveTCPAddr("tcp4", addr)
	require.NoError(t, err)
	for i := range n {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		require.NoError(t, err)
		require.NoError(t, syscall.Connect(fd, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}))
		_, err = syscall.Write(fd, request(addr, fmt.Sprintf("u%d", i)))
		require.NoError(t, err)
		require.NoError(t, syscall.SetNonblock(fd, true))
		require.NoError(t, syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}))
	}
	got := &readings{late: make(chan []time.Duration, 1)}
	got.late <- nil
	go readAll(poll, got)
	fmt.Println("open") //nolint:forbidigo // to the benchmark
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println(got.report()) //nolint:forbidigo // to the benchmark
	}
}

// subscribeRequest is a Subscribe call of a user as it goes over the wire.
func subscribeRequest(addr, user string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST /parley.v1.SyncService/Subscribe HTTP/1.1\r\nHost: %s\r\nContent-Type: application/connect+proto\r\n"+
		"Connect-Protocol-Version: 1\r\nAuthorization: Bearer %s\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x00", addr, user)
	return b.Bytes()
}

// subscribeRequestH2 is the same over HTTP/2, with windows so large that the readers never need to widen them.
func subscribeRequestH2(addr, user string) []byte {
	var head, b bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/parley.v1.SyncService/Subscribe"},
		{":authority", addr}, {"content-type", "application/grpc+proto"}, {"te", "trailers"}, {"authorization", "Bearer " + user}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	b.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&b, nil)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	_ = fr.WriteWindowUpdate(0, 1<<31-1-65535)
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true})
	_ = fr.WriteData(1, true, make([]byte, 5))
	_ = fr.WriteSettingsAck()
	return b.Bytes()
}

// readings is what the readers have seen.
type readings struct {
	bytes, deliveries atomic.Int64
	late              chan []time.Duration
}

func readAll(poll int, got *readings) {
	events := make([]syscall.EpollEvent, 256)
	buf := make([]byte, 256<<10)
	for {
		k, err := syscall.EpollWait(poll, events, -1)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return
		}
		for _, ev := range events[:k] {
			m, err := syscall.Read(int(ev.Fd), buf)
			if err == syscall.EAGAIN || err == syscall.EINTR {
				continue
			}
			if m <= 0 {
				_ = syscall.EpollCtl(poll, syscall.EPOLL_CTL_DEL, int(ev.Fd), nil)
				continue
			}
			got.take(buf[:m])
		}
	}
}

func (g *readings) take(b []byte) {
	g.bytes.Add(int64(len(b)))
	g.deliveries.Add(int64(bytes.Count(b, []byte{stamp})))
	at := bytes.IndexByte(b, stamp)
	if at < 0 || len(b) < at+9 {
		return
	}
	late := time.Duration(time.Now().UnixNano() - decodeStamp(b[at+1:at+9])) //nolint:forbidigo // a measurement
	list := <-g.late
	if len(list) < 1<<20 && late > 0 && late < time.Minute {
		list = append(list, late)
	}
	g.late <- list
}

func (g *readings) report() string {
	list := <-g.late
	g.late <- nil
	slices.Sort(list)
	p50, p99 := time.Duration(0), time.Duration(0)
	if len(list) > 0 {
		p50, p99 = list[len(list)/2], list[len(list)*99/100]
	}
	return fmt.Sprintf("%d %d %d %d %d", g.bytes.Load(), g.deliveries.Load(), cpuTime(), p50, p99)
}

// encodeStamp writes a time as eight bytes of text, six bits each: the bodies of messages are text.
func encodeStamp(ns int64) []byte {
	var b [8]byte
	v := uint64(ns) >> 16 // 65 µs
	for i := range b {
		b[i] = '0' + byte(v>>(6*(7-i))&63)
	}
	return b[:]
}

func decodeStamp(b []byte) int64 {
	var v uint64
	for _, c := range b[:8] {
		v = v<<6 | uint64(c-'0')
	}
	return int64(v << 16)
}

// cpuTime is what this process has used, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// procValue reads a number of a file below /proc/self.
func procValue(file, key string) int64 {
	raw, _ := os.ReadFile("/proc/self/" + file)
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			v, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return v
		}
	}
	return 0
}
