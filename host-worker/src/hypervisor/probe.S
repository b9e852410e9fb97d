# The probe's boot sector: does code run in a guest, and at a processor's speed?
#
# From real mode to protected mode to long mode with paging, as every kernel goes; then memory is touched page by page
# and a loop counted down. Only then the marker is said on COM1, and the machine resets (qemu has -no-reboot).
# A KVM that executes nothing never says it; one that emulates step by step does not within the probe's time limit.
#
# Built into probe.bin (512 bytes) by:
#   as --64 -o probe.o probe.S && ld -m elf_x86_64 -Ttext 0x7c00 --oformat binary -o probe.bin probe.o
    .code16
    .org 0
start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    cld
    # Page tables at 0x1000, 0x2000, 0x3000: the first GiB onto itself in pages of 2 MiB.
    mov $0x1000, %di
    mov $0x3000, %cx
    rep stosb
    movl $0x2003, 0x1000
    movl $0x3003, 0x2000
    mov $0x3000, %di
    mov $0x83, %eax
0:  mov %eax, (%di)
    add $0x200000, %eax
    add $8, %di
    cmp $0x4000, %di
    jne 0b
    lgdtl gdtr
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $prot
    .code32
prot:
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %cr4, %eax
    or $0x20, %eax
    mov %eax, %cr4
    mov $0x1000, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    ljmp $24, $long
    .code64
long:
    # Every page from 1 to 48 MiB.
    mov $0x100000, %edi
0:  incl (%rdi)
    add $0x1000, %edi
    cmp $0x3000000, %edi
    jne 0b
    # A tenth of a second on any processor that executes it; beyond the limit where each step is emulated.
    mov $100000000, %ecx
0:  dec %ecx
    jnz 0b
    mov $msg, %esi
1:  lodsb
    test %al, %al
    jz 2f
    mov $0x3f8, %dx
    out %al, %dx
    jmp 1b
2:  mov $0xfe, %al
    out %al, $0x64
3:  hlt
    jmp 3b
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff
    .quad 0x00cf92000000ffff
    .quad 0x00af9a000000ffff
gdtr:
    .word 31
    .long gdt
msg: .asciz "maglica: guest code ran\n"
    .org 510
    .word 0xaa55
