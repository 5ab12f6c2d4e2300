package limit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// ServeHold is a bare net/http server that answers each request with the head of a stream and CaughtUp and then holds it,
// until in ends. It speaks HTTP/1.1 and HTTP/2 without TLS. It says its address on out.
func ServeHold(ctx context.Context, in io.Reader, out io.Writer) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(hold)}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	fmt.Fprintln(out, ln.Addr())
	_, err = io.Copy(io.Discard, in)
	err = errors.Join(err, s.Close())
	if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

func hold(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/connect+proto")
	if _, err := w.Write(enveloped(caughtUp())); err != nil {
		return
	}
	if err := http.NewResponseController(w).Flush(); err != nil {
		return
	}
	<-r.Context().Done()
}
