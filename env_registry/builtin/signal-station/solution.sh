#!/bin/bash
set -eu
cd /app
cat > boot.asm <<'ASM'
; The signal station. Sectors are read one at a time, by LBA, to 0000:8000 and added up there.
        bits 16
        org 0x7c00
buffer  equ 0x8000

start:  jmp 0:here
here:   xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7c00
        cld
        sti
        mov [drive], dl

        mov dx, 0x3fb           ; 115200 baud, 8N1, no interrupts
        mov al, 0x80
        out dx, al
        mov dx, 0x3f8
        mov al, 1
        out dx, al
        mov dx, 0x3f9
        xor al, al
        out dx, al
        mov dx, 0x3fb
        mov al, 3
        out dx, al
        mov dx, 0x3f9
        xor al, al
        out dx, al

        mov word [lba], 1
        call read
        cmp dword [buffer], 'ORRN'
        je signal
        mov si, no_signal
        call send
        jmp stop

signal: mov ax, [buffer + 4]
        mov [count], ax
        mov [left], ax
        xor ebp, ebp            ; the checksum
more:   cmp word [left], 0
        je done
        dec word [left]
        inc word [lba]
        call read
        mov si, buffer
        mov cx, 512
add_up: rol ebp, 5
        xor eax, eax
        lodsb
        xor ebp, eax
        loop add_up
        jmp more

done:   mov si, orrin
        call send
        mov ax, [count]
        xor cx, cx
        mov bx, 10
divide: xor dx, dx
        div bx
        push dx
        inc cx
        test ax, ax
        jnz divide
digit:  pop ax
        add al, '0'
        call put
        loop digit
        mov al, ' '
        call put
        mov cx, 8
hex:    rol ebp, 4
        mov ax, bp
        and al, 15
        add al, '0'
        cmp al, '9'
        jbe small
        add al, 'a' - '9' - 1
small:  call put
        loop hex
        mov al, 10
        call put

        cmp word [count], 0
        je finish
        mov word [lba], 2       ; the first sector again
        call read
        mov byte [buffer + 512], 0
        mov si, buffer
        call send
finish: mov si, last
        call send
stop:   hlt
        jmp stop

; Read sector [lba] to the buffer.
read:   mov si, packet
        mov dl, [drive]
        mov ah, 0x42
        int 0x13
        jc read
        ret

; Send the bytes at si up to a zero.
send:   lodsb
        test al, al
        jz sent
        call put
        jmp send
sent:   ret

put:    push dx
        push ax
        mov dx, 0x3fd
busy:   in al, dx
        test al, 0x20
        jz busy
        pop ax
        mov dx, 0x3f8
        out dx, al
        pop dx
        ret

packet: db 16, 0
        dw 1, buffer, 0
lba:    dd 0, 0
drive:  db 0
count:  dw 0
left:   dw 0
orrin:  db 'ORRIN ', 0
no_signal: db 'NO SIGNAL', 10, 0
last:   db 10, 'STOP', 10, 0

        times 510 - ($ - $$) db 0
        dw 0xaa55
ASM
nasm -f bin -o boot.bin boot.asm
printf 'Fog on the sound.' > /tmp/message
python3 mkdisk.py boot.bin /tmp/message /tmp/disk.img
timeout 4 qemu-system-i386 -display none -serial stdio -no-reboot -m 16 -drive file=/tmp/disk.img,format=raw < /dev/null || true
