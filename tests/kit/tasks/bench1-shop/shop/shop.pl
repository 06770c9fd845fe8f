use strict;
use IO::Socket::INET;
$SIG{TERM} = sub { exit 0 };
my $door = IO::Socket::INET->new(LocalPort => 8000, Listen => 5, ReuseAddr => 1) or die "no door: $!";
my ($asked, $stock) = (0, join "\n", split /,/, $ENV{STOCK});
open my $open, ">", "/var/sales/open" or die $!;
close $open;
while (my $guest = $door->accept) {
    my $line = <$guest> // "";
    $asked++ if $line =~ m{^GET /stock };
    my $said = $line =~ m{^GET /log } ? "$asked\n" : "$stock\n";
    print $guest "HTTP/1.0 200 OK\r\nContent-Length: " . length($said) . "\r\n\r\n$said";
    close $guest;
}
