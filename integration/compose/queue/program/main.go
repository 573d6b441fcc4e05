// Command program is the test's work queue: as gate it takes jobs over HTTP, as worker it does them.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nereid-paas/nereid/integration/compose/redis"
)

func main() {
	log.SetFlags(0)
	verbs := map[string]func() error{"gate": gate, "worker": worker}
	do, ok := verbs[strings.Join(os.Args[1:], " ")]
	if !ok {
		log.Fatalf("no verb %q", os.Args[1:])
	}
	if err := do(); err != nil {
		log.Fatal(err)
	}
}

func queue(ctx context.Context, args ...string) (string, error) {
	return redis.Do(ctx, "queue:6379", args...)
}

// gate queues a number for each POST /jobs and waits for its square and the name of who computed it; GET /workers
// counts the workers by their name's addresses.
func gate() error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /jobs", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = submit(w, r, strings.TrimSpace(string(body)))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	mux.HandleFunc("GET /workers", func(w http.ResponseWriter, r *http.Request) {
		addrs, err := net.DefaultResolver.LookupHost(r.Context(), "worker")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, len(addrs))
	})
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", ":80")
	if err != nil {
		return err
	}
	fmt.Println("gate is open") // who knocks now is let in
	return http.Serve(l, mux)
}

func submit(w http.ResponseWriter, r *http.Request, job string) error {
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	id, err := queue(ctx, "INCR", "id")
	if err != nil {
		return err
	}
	if _, err := queue(ctx, "LPUSH", "jobs", id+" "+job); err != nil {
		return err
	}
	done, err := queue(ctx, "BRPOP", "done "+id, "15")
	if err == nil && done == "" {
		err = fmt.Errorf("job %s was not done", id)
	}
	if err == nil {
		fmt.Fprintln(w, done)
	}
	return err
}

// worker squares numbers, and answers on a port of its own with its name.
func worker() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	go func() {
		log.Fatal(http.ListenAndServe(":9000", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, name)
		})))
	}()
	fmt.Println("working")
	for {
		if err := work(context.Background(), name); err != nil {
			return err // restarted by its policy
		}
	}
}

func work(ctx context.Context, name string) error {
	got, err := queue(ctx, "BRPOP", "jobs", "5")
	if err != nil || got == "" {
		return err
	}
	id, job, _ := strings.Cut(got, " ")
	answer := "not a number"
	if n, err := strconv.Atoi(job); err == nil {
		answer = strconv.Itoa(n * n)
	}
	fmt.Println("did", job)
	_, err = queue(ctx, "LPUSH", "done "+id, answer+" "+name)
	return err
}
