// Package cns tests the name service with other people's name servers and resolvers.
package cns
