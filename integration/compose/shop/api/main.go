// Command api is the middle of the test's shop: notes over HTTP, kept in PostgreSQL, counted in Redis.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	_ "github.com/lib/pq"

	"github.com/nereid-paas/nereid/integration/compose/redis"
)

func main() {
	log.SetFlags(0)
	verb := "serve"
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	verbs := map[string]func() error{"serve": serve, "migrate": migrate, "health": health, "secret": secret}
	do, ok := verbs[verb]
	if !ok {
		log.Fatalf("no verb %q", verb)
	}
	if err := do(); err != nil {
		log.Fatal(err)
	}
}

// password is a secret, which compose puts into a file.
func password() (string, error) {
	b, err := os.ReadFile("/run/secrets/db_password")
	return strings.TrimSpace(string(b)), err
}

func secret() error {
	p, err := password()
	fmt.Println(len(p), "characters")
	return err
}

func database() (*sql.DB, error) {
	p, err := password()
	if err != nil {
		return nil, err
	}
	return sql.Open("postgres", fmt.Sprintf("host=%s user=postgres password='%s' dbname=postgres sslmode=disable connect_timeout=5", os.Getenv("DB_HOST"), p))
}

func migrate() error {
	db, err := database()
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // the process ends
	_, err = db.ExecContext(context.Background(), "CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, body text NOT NULL)")
	fmt.Println("migrated")
	return err
}

func health() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:9000/api/notes", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

type api struct{ db *sql.DB }

func serve() error {
	db, err := database()
	if err != nil {
		return err
	}
	a := api{db}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/notes", a.list)
	mux.HandleFunc("POST /api/notes", a.add)
	fmt.Println("serving as", os.Getenv("SHOP_NAME"))
	return http.ListenAndServe(":9000", mux)
}

// Notes is what a listing answers.
type Notes struct {
	Shop  string   `json:"shop"`
	Notes []string `json:"notes"`
	Hits  string   `json:"hits"`
}

func (a api) list(w http.ResponseWriter, r *http.Request) {
	hits, err := redis.Do(r.Context(), os.Getenv("CACHE_HOST")+":6379", "INCR", "hits")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	rows, err := a.db.QueryContext(r.Context(), "SELECT body FROM notes ORDER BY id")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer rows.Close() //nolint:errcheck // read to its end
	n := Notes{Shop: os.Getenv("SHOP_NAME"), Notes: []string{}, Hits: hits}
	for rows.Next() {
		var body string
		if err := rows.Scan(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		n.Notes = append(n.Notes, body)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(n) // the client went
}

func (a api) add(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		_, err = a.db.ExecContext(r.Context(), "INSERT INTO notes (body) VALUES ($1)", string(body))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusCreated)
}
