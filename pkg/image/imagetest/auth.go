package imagetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// RequireBasic has a registry want a user's password with every request.
func (r *Registry) RequireBasic(user, password string) {
	r.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if u, p, ok := req.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
			return
		}
		next.ServeHTTP(w, req)
	})
}

// TokenServer gives tokens for a registry: to a user with his password, to whoever has the identity token, and, for
// what is public, to everybody.
type TokenServer struct {
	*httptest.Server
	User, Password, Identity string
	Public                   string // repository anybody may pull
	Private                  string // repository nobody may mount from
	// Asked are the queries and forms of the requests, in order.
	Asked []string
}

// RequireToken has a registry want a token of a token server that knows one user.
func (r *Registry) RequireToken(t testing.TB, s *TokenServer) {
	t.Helper()
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	r.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		repo := ""
		if parts := strings.Split(strings.TrimPrefix(req.URL.Path, "/v2/"), "/"); len(parts) > 1 {
			repo = parts[0]
		}
		token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
		switch {
		case s.Private != "" && req.URL.Query().Get("from") == s.Private:
			refuse(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied")
		case token == "good-for-"+repo, token == "given":
			next.ServeHTTP(w, req)
		case strings.HasPrefix(token, "good-for-"):
			w.Header().Set("WWW-Authenticate", s.challenge(repo)+`,error="insufficient_scope"`)
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		default:
			w.Header().Set("WWW-Authenticate", s.challenge(repo))
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		}
	})
}

func (s *TokenServer) challenge(repo string) string {
	c := fmt.Sprintf(`Bearer realm="%s/token",service="test"`, s.URL)
	if repo != "" {
		c += fmt.Sprintf(`,scope="repository:%s:pull"`, repo)
	}
	return c
}

func (s *TokenServer) serve(w http.ResponseWriter, req *http.Request) {
	_ = req.ParseForm()
	s.Asked = append(s.Asked, req.Method+" "+req.Form.Encode())
	scope := strings.Split(req.Form.Get("scope")+"::", ":")
	user, password, given := req.BasicAuth()
	known := given && user == s.User && password == s.Password
	switch {
	case req.Method == http.MethodPost && req.Form.Get("refresh_token") == s.Identity && s.Identity != "", known:
		give(w, scope[1])
	case given || req.Method == http.MethodPost:
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
	case scope[1] == s.Public:
		give(w, scope[1])
	default:
		give(w, "nothing")
	}
}

func give(w http.ResponseWriter, repo string) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": "good-for-" + repo, "expires_in": 300, "refresh_token": "identity"})
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}
